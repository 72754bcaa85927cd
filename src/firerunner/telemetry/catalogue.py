"""Every metric there is: name, kind, labels and meaning. Nothing is exported that is not declared here.

Base units (seconds, bytes), `_total` for counters, and labels whose values are few: pools, hosts, states,
outcomes; never a job, a project or a machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How Prometheus reads it."""

    COUNTER = "counter"  # only grows while the process lives: take its rate
    GAUGE = "gauge"  # set when something happens
    HISTOGRAM = "histogram"  # `_bucket`, `_sum` and `_count`
    SCRAPED = "scraped"  # a gauge that is read when Prometheus asks


@dataclass(frozen=True, slots=True, eq=False)
class Declared:
    """One metric."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


PREFIX = "firerunner_"

QUICK_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""For what should take no time: the database, the loop."""
CALL_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 90.0)
"""For calls; GitLab may hold an ask open for 50 s."""
START_S = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)
"""From a restored machine's quarter of a second to a queue of an hour."""
STATE_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)

ALL: list[Declared] = []


def _declare(kind: Kind, name: str, text: str, *labels: str, buckets: tuple[float, ...] = ()) -> Declared:
    ALL.append(Declared(PREFIX + name, kind, text, labels, buckets))
    return ALL[-1]


# Jobs
JOBS_TAKEN = _declare(Kind.COUNTER, "jobs_taken_total", "Jobs that GitLab has handed to us.", "pool")
JOBS = _declare(
    Kind.COUNTER,
    "jobs_total",
    "Jobs that are over. `outcome`: GitLab's `success`, `failed` or `canceled`; `system_failure` where we "
    "failed it as ours to fail (`runner_system_failure`); `unknown` where GitLab did not say how it ended.",
    "pool",
    "outcome",
)
JOB_QUEUED = _declare(
    Kind.HISTOGRAM,
    "job_queued_seconds",
    "How long jobs had been pending when GitLab handed them out: its own `time_in_queue_seconds`.",
    "pool",
    buckets=START_S,
)
JOB_START = _declare(
    Kind.HISTOGRAM,
    "job_start_seconds",
    "From GitLab's hand-over until the runner in the machine first speaks about the job. `start`: `warm` for "
    "a machine that had booted before the job came, `restored` for one made for it from a saved state, "
    "else `cold`; of machines that this process has made.",
    "pool",
    "start",
    buckets=START_S,
)
JOB_TO_RUNNING = _declare(
    Kind.HISTOGRAM,
    "job_pending_to_running_seconds",
    "What authors feel: GitLab's `time_in_queue_seconds` and our `job_start_seconds` together.",
    "pool",
    "start",
    buckets=START_S,
)
JOB_TO_OUTPUT = _declare(
    Kind.HISTOGRAM,
    "job_pending_to_output_seconds",
    "From pending until GitLab has the first bytes of the job's log.",
    "pool",
    "start",
    buckets=START_S,
)
JOB_STATE = _declare(
    Kind.HISTOGRAM,
    "job_state_seconds",
    "How long jobs were in a state, observed as they leave it.",
    "pool",
    "state",
    buckets=STATE_S,
)
JOBS_HOMELESS = _declare(
    Kind.SCRAPED,
    "jobs_without_machine",
    "Jobs whose machine died before delivery and that wait for another one.",
    "pool",
)
WARM = _declare(
    Kind.COUNTER,
    "warm_starts_total",
    "Jobs of pools with `warm` machines. `result`: `hit` if one was waiting, else `miss`.",
    "pool",
    "result",
)

# Asks
ASKS = _declare(
    Kind.COUNTER,
    "asks_total",
    "Asks to GitLab. `answer`: `job`, `nothing`, `refused` (the runner token), `raced` (another was faster), "
    "`trouble` (no usable answer).",
    "pool",
    "answer",
)
POOL_STATE = _declare(
    Kind.SCRAPED,
    "pool_state",
    "1 for the state that the pool is in, 0 for the others: `asking`; `idle` until its next ask; `limit` "
    "(its own limit of machines) and `no_room` (its hosts are full) keep it from asking; `homeless`: a job "
    "needs another machine first; `blocked`: it may not ask, `/ready` says why.",
    "pool",
    "state",
)
POOL_LIMIT = _declare(Kind.SCRAPED, "pool_limit", "The pool's `limit` of machines.", "pool")
POOL_WARM = _declare(Kind.SCRAPED, "pool_warm_wanted", "How many machines the pool keeps warm.", "pool")

# Machines
MACHINES = _declare(
    Kind.SCRAPED,
    "machines",
    "Machines now, by state. An id that is kept for the next ask is `reserved` too.",
    "pool",
    "host",
    "state",
)
MACHINE_STATE = _declare(
    Kind.HISTOGRAM,
    "machine_state_seconds",
    "How long machines were in a state, observed as they leave it.",
    "pool",
    "state",
    buckets=STATE_S,
)
LAUNCHES = _declare(
    Kind.COUNTER,
    "launches_total",
    "Machines that were to be made. `outcome`: `created`, `image` (it cannot be used), `host` (it could not "
    "make it).",
    "pool",
    "host",
    "outcome",
)
FAILURES = _declare(
    Kind.COUNTER,
    "machine_failures_total",
    "Machines that were given up. `state` is the one they were in: `creating` (the host), `booting` (the "
    "guest did not call), `waiting` (its runner did not ask), `busy` (with a job).",
    "pool",
    "host",
    "state",
)
LEAKS = _declare(
    Kind.COUNTER,
    "leaks_total",
    "Machines found on a host that the ledger does not know; they are destroyed.",
    "host",
)

DRIVER = _declare(
    Kind.HISTOGRAM,
    "driver_seconds",
    "Calls to hosts. `operation`: `create` until the VMM runs, `destroy` until nothing is left. `outcome`: "
    "`ok` or `failed`.",
    "host",
    "operation",
    "outcome",
    buckets=CALL_S,
)

# Hosts
HOST_USABLE = _declare(
    Kind.SCRAPED,
    "host_usable",
    "1 if the host may get machines now; 0 if it is in trouble, cordoned or drained.",
    "host",
)
HOST_VCPUS = _declare(Kind.SCRAPED, "host_vcpus", "vCPUs that the host gives out.", "host")
HOST_VCPUS_USED = _declare(Kind.SCRAPED, "host_vcpus_used", "vCPUs held by machines and promises.", "host")
HOST_MEMORY = _declare(Kind.SCRAPED, "host_memory_bytes", "Memory that the host gives out.", "host")
HOST_MEMORY_USED = _declare(
    Kind.SCRAPED, "host_memory_used_bytes", "Memory held by machines and promises.", "host"
)
HOST_DISK = _declare(Kind.SCRAPED, "host_disk_bytes", "Disk that the host gives out.", "host")
HOST_DISK_USED = _declare(Kind.SCRAPED, "host_disk_used_bytes", "Disk held by machines and promises.", "host")

# GitLab
GITLAB_CALLS = _declare(
    Kind.HISTOGRAM,
    "gitlab_request_seconds",
    "Calls to GitLab until its answer begins, guests' calls through the gate included. `outcome`: the "
    "status, or `none` for no answer. An `ask` may be held open by GitLab.",
    "gitlab",
    "endpoint",
    "outcome",
    buckets=CALL_S,
)
GITLAB_ERRORS = _declare(
    Kind.COUNTER,
    "gitlab_errors_total",
    "What our own calls ran into: the status or the kind of error; `cut` for an ask whose job broke off.",
    "activity",
    "kind",
)
GITLAB_HEADROOM = _declare(
    Kind.GAUGE,
    "gitlab_ratelimit_remaining",
    "GitLab's last `RateLimit-Remaining`: calls left before it says 429. Absent where it does not tell.",
    "gitlab",
)
GITLAB_LIMIT = _declare(
    Kind.GAUGE, "gitlab_ratelimit_limit", "GitLab's last `RateLimit-Limit`: calls in its period.", "gitlab"
)

# Doors
HOOKS = _declare(
    Kind.COUNTER,
    "hooks_total",
    "Webhook requests. `outcome`: `woke` and `ignored` were authentic, the others say why not.",
    "outcome",
)
API_REQUESTS = _declare(
    Kind.COUNTER, "api_requests_total", "API requests by right and status.", "right", "status"
)
GATE_REQUESTS = _declare(
    Kind.COUNTER,
    "gate_requests_total",
    "Guests' requests, by what they mean and the answer's status.",
    "activity",
    "status",
)
GATE_RECEIVED = _declare(
    Kind.COUNTER, "gate_received_bytes_total", "Bytes of bodies that guests have sent.", "activity"
)
GATE_SENT = _declare(
    Kind.COUNTER, "gate_sent_bytes_total", "Bytes of bodies that guests were sent.", "activity"
)
GATE_EVENTS = _declare(
    Kind.COUNTER,
    "gate_events_total",
    "What the gate saw. `kind`: `lie` (what an honest guest never does), `refused`, `upstream` (GitLab "
    "missing), `fault` (ours), `guest`, `delivered`.",
    "kind",
    "detail",
)
GATE_HELD = _declare(Kind.SCRAPED, "gate_held_asks", "Guests that wait at the gate for their job.")

# The service
LEADER = _declare(
    Kind.SCRAPED, "leader", "1 if this controller leads. Machines, pools and hosts are shown by it."
)
TERMS = _declare(Kind.COUNTER, "leader_terms_total", "How often this controller has begun to lead.")
DATABASE = _declare(
    Kind.HISTOGRAM,
    "database_seconds",
    "Reads and durable writes of the ledger, with the wait for their turn.",
    "operation",
    buckets=QUICK_S,
)
DATABASE_ERRORS = _declare(
    Kind.COUNTER, "database_errors_total", "Reads and writes that the database failed.", "operation"
)
LOOP_LAG = _declare(
    Kind.HISTOGRAM,
    "loop_lag_seconds",
    "How much later than asked for the event loop came round, measured twice a second.",
    buckets=QUICK_S,
)
EVENTS_WAITING = _declare(Kind.SCRAPED, "events_waiting", "Events that the plan has not taken in yet.")
DISK_FREE = _declare(
    Kind.SCRAPED,
    "filesystem_free_bytes",
    "Room that is left where `directory` is: `state` (ledger, machines) or `images`.",
    "directory",
)
DISK_SIZE = _declare(Kind.SCRAPED, "filesystem_size_bytes", "Size of that file system.", "directory")
CERTIFICATE = _declare(
    Kind.SCRAPED,
    "certificate_expiry_timestamp_seconds",
    "When the certificate that a door shows expires (Unix time). `door`: `web` or `gate_https`.",
    "door",
)
TOKEN = _declare(
    Kind.GAUGE,
    "api_token_expiry_timestamp_seconds",
    "When a GitLab's `api_token` expires (Unix time, midnight UTC). Absent if it does not, or is not known.",
    "gitlab",
)
SPANS_LOST = _declare(
    Kind.COUNTER, "trace_spans_dropped_total", "Spans thrown away because too many waited for the endpoint."
)
BUILD = _declare(Kind.SCRAPED, "build_info", "1, with the version as label.", "version")
