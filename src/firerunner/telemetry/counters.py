"""What is counted, in Prometheus' terms; every label has a bounded set of values."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, generate_latest


class Counters:
    """One registry for one service, so that two services in one process do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"firerunner_{name}", text, labels, registry=self.registry)

        self.asks = counter("asks_total", "Asks to GitLab by pool and answer.", "pool", "answer")
        self.jobs = counter("jobs_total", "Ended jobs by pool and outcome.", "pool", "outcome")
        self.launches = counter("launches_total", "Machine launches by pool and outcome.", "pool", "outcome")
        self.deaths = counter("machine_deaths_total", "Machines that died or were given up.", "pool")
        self.leaks = counter("leaks_total", "Machines found on a host that the ledger does not know.", "host")
        self.hooks = counter("hooks_total", "Webhook requests by outcome.", "outcome")
        self.api = counter("api_requests_total", "API requests by right and status.", "right", "status")
        self.gate = counter("gate_events_total", "What the gate saw, by kind and detail.", "kind", "detail")
        self.gitlab = counter("gitlab_events_total", "Calls to GitLab by kind and outcome.", "kind", "detail")

    def count_api(self, right: str, status: str) -> None:
        """For the API's `count` argument."""
        self.api.labels(right, status).inc()

    def count_gate(self, kind: str, detail: str) -> None:
        """For the gate's `count` argument."""
        self.gate.labels(kind, detail).inc()

    def count_gitlab(self, kind: str, detail: str) -> None:
        """For the GitLab client's `count` argument."""
        self.gitlab.labels(kind, detail).inc()

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)
