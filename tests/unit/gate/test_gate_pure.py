"""The gate's pure parts: routes, headers, verdicts, limits, files for the guest."""

from __future__ import annotations

import io
import json
import tarfile
import tomllib
from dataclasses import replace

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firerunner.gate import GuestFacts
from firerunner.gate.headers import check_query, downwards, upwards, without_direct_download
from firerunner.gate.limits import Buckets, Turnstile
from firerunner.gate.refusals import Kind, Refusal, form
from firerunner.gate.routes import Activity, Route, route
from firerunner.gate.verdicts import Ended, Gone, Said, judge, read_update
from firerunner.gate.welcome import runner_config, runner_system_id, welcome
from firerunner.gitlab.jobs import JobReply, read_reply

A = "fr-aaaaaaaaaaaa"


@pytest.mark.parametrize(
    ("method", "path", "found"),
    [
        ("POST", f"/m/{A}/guest/booted", Route(Activity.BOOTED, A)),
        ("POST", f"/m/{A}/guest/ended", Route(Activity.ENDED, A)),
        ("POST", f"/m/{A}/api/v4/jobs/request", Route(Activity.ASK, A)),
        ("PUT", f"/m/{A}/api/v4/jobs/91", Route(Activity.UPDATE, A, 91)),
        ("PATCH", f"/m/{A}/api/v4/jobs/91/trace", Route(Activity.TRACE, A, 91)),
        ("POST", f"/m/{A}/api/v4/jobs/91/artifacts", Route(Activity.UPLOAD, A, 91)),
        ("GET", f"/m/{A}/api/v4/jobs/91/artifacts", Route(Activity.DOWNLOAD, A, 91)),
        ("GET", f"/m/{A}/api/v4/runners/router/discovery", Route(Activity.DISCOVER, A)),
        ("GET", f"/m/{A}/guest/booted", None),
        ("PUT", f"/m/{A}/api/v4/jobs/091", None),
        ("PUT", f"/m/{A}/api/v4/jobs/91/", None),
        ("PUT", f"/m/{A}/api/v4/jobs/9999999999999999999", None),
        ("PUT", f"/m/{A}/api/v4/jobs/-1", None),
        ("PUT", f"/m/{A}/api/v4/jobs/٩", None),
        ("PUT", f"//m/{A}/api/v4/jobs/91", None),
        ("PUT", f"/m/{A}x/api/v4/jobs/91", None),
        ("PUT", "/m/FR-AAAAAAAAAAAA/api/v4/jobs/91", None),
        ("PUT", f"/m/{A}/api/v4/jobs/91\n", None),
    ],
)
def test_a_path_means_one_call_or_nothing(method: str, path: str, found: Route | None) -> None:
    assert route(method, path) == found


@given(st.text(max_size=80))
def test_any_other_path_means_nothing(path: str) -> None:
    assert route("GET", path) is None


def test_only_what_a_job_call_needs_goes_up() -> None:
    sent = [
        (b"host", b"gate"),
        (b"job-token", b"t"),
        (b"content-range", b"0-4"),
        (b"private-token", b"glpat"),
        (b"cookie", b"a=b"),
        (b"connection", b"keep-alive"),
        (b"transfer-encoding", b"chunked"),
    ]

    assert upwards(sent) == [(b"job-token", b"t"), (b"content-range", b"0-4")]


def test_what_belongs_to_one_connection_does_not_come_down() -> None:
    came = [
        (b"Job-Status", b"running"),
        (b"Range", b"0-5"),
        (b"X-GitLab-Trace-Update-Interval", b"3"),
        (b"Retry-After", b"7"),
        (b"X-Request-Id", b"r"),
        (b"Connection", b"close, X-Secret"),
        (b"X-Secret", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Set-Cookie", b"s=1"),
        (b"Date", b"now"),
        (b"Server", b"nginx"),
    ]

    assert downwards(came) == [
        (b"job-status", b"running"),
        (b"range", b"0-5"),
        (b"x-gitlab-trace-update-interval", b"3"),
        (b"retry-after", b"7"),
        (b"x-request-id", b"r"),
    ]


@pytest.mark.parametrize(
    "query",
    [b"", b"debug_trace=false", b"artifact_format=zip&artifact_type=junit&expire_in=1+week"],
)
def test_the_runners_own_parameters_pass(query: bytes) -> None:
    check_query(query)


@pytest.mark.parametrize(
    "query",
    [
        b"token=t",
        b"TOKEN=t",
        b"debug_trace=1&id=5",
        b"%74oken=t",
        b"private_token=",
        b"\xff=1",
        b"&".join([b"a=1"] * 30),
    ],
)
def test_other_parameters_do_not(query: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        check_query(query)

    assert (caught.value.status, caught.value.kind) == (400, Kind.MALFORMED)


def test_direct_download_is_taken_out() -> None:
    assert without_direct_download(b"direct_download=true") == b""
    assert without_direct_download(b"a=1&direct_download=true&b=2") == b"a=1&b=2"


def reply(status: int, job_status: str | None = None, kind: str = "text/plain") -> JobReply:
    headers = {"Content-Type": kind} | ({"Job-Status": job_status} if job_status else {})
    return read_reply(status, httpx.Headers(headers))


SUCCESS = Said("t", "success", None, 0)
FAILED = Said("t", "failed", "script_failure", 3)
RUNNING = Said("t", "running", None, None)


@pytest.mark.parametrize(
    ("said", "answered", "last_status", "verdict"),
    [
        (SUCCESS, reply(200, "success"), "running", Ended("success", None, 0)),
        (SUCCESS, reply(200), None, Ended("success", None, 0)),
        (FAILED, reply(200, "failed"), "running", Ended("failed", "script_failure", 3)),
        (FAILED, reply(200, "canceled"), "canceling", Ended("canceled", None, 3)),
        (FAILED, reply(200), "canceling", Ended("canceled", None, 3)),
        (SUCCESS, reply(200, "canceling"), None, Ended("canceled", None, 0)),
        (SUCCESS, reply(202, "running"), "running", None),
        (SUCCESS, reply(200, None, "text/html"), "running", None),
        (SUCCESS, reply(500), "running", None),
        (SUCCESS, reply(412), "running", None),
        (SUCCESS, reply(403, "success"), "running", Ended("success", None, 0)),
        (SUCCESS, reply(403, "canceled"), "running", Ended("canceled", None, 0)),
        (SUCCESS, reply(403), "running", Gone(403, None)),
        (RUNNING, reply(200, "running"), "running", None),
        (RUNNING, reply(200, "canceling"), "running", None),
        (RUNNING, reply(200, "canceled"), "running", Gone(200, "canceled")),
        (RUNNING, reply(200, "failed"), "running", Gone(200, "failed")),
        (RUNNING, reply(403, "success"), "running", Gone(403, "success")),
        (RUNNING, reply(404), "running", Gone(404, None)),
        (RUNNING, reply(401), "running", None),
        (RUNNING, reply(409), "running", None),
    ],
)
def test_what_gitlabs_reply_to_an_update_means(
    said: Said, answered: JobReply, last_status: str | None, verdict: Ended | Gone | None
) -> None:
    assert judge(Activity.UPDATE, said, answered, last_status) == verdict


@pytest.mark.parametrize(
    ("answered", "verdict"),
    [
        (reply(202, "running"), None),
        (reply(202, "canceled"), Gone(202, "canceled")),
        (reply(403), Gone(403, None)),
        (reply(404), None),
        (reply(416), None),
    ],
)
def test_what_gitlabs_reply_to_a_trace_patch_means(answered: JobReply, verdict: Gone | None) -> None:
    assert judge(Activity.TRACE, None, answered, None) == verdict


@given(st.binary(max_size=100))
def test_any_update_body_is_read_or_refused(body: bytes) -> None:
    try:
        said = read_update(body)
    except Refusal as refusal:
        assert refusal.status == 400
    else:
        assert said.state is None or isinstance(said.state, str)


@given(st.lists(st.floats(0, 5), max_size=200), st.integers(1, 20))
def test_a_bucket_never_gives_more_than_its_rate_and_burst(steps: list[float], burst: int) -> None:
    buckets, now, given_out = Buckets(2.0, burst, 10), 0.0, 0
    for step in steps:
        now += step
        given_out += buckets.take("a", now) == 0

    assert given_out <= burst + 2.0 * now + 1e-6


def test_buckets_are_apart_and_the_oldest_is_forgotten() -> None:
    buckets = Buckets(1.0, 1, 2)

    assert [buckets.take(name, 0.0) for name in ("a", "a", "b", "c", "a")] == [0, 1.0, 0, 0, 0]


def test_a_turnstile_lets_in_again_who_has_left() -> None:
    turnstile = Turnstile(1)
    with turnstile.inside("a"), turnstile.inside("b"), pytest.raises(Refusal), turnstile.inside("a"):
        raise AssertionError
    with turnstile.inside("a"):
        pass


def test_a_refusal_says_when_to_come_again_in_whole_seconds() -> None:
    headers, body = form(Refusal(503, Kind.UPSTREAM, "x", retry_after_s=0.2, job_status="failed"))

    assert dict(headers)[b"retry-after"] == b"1"
    assert dict(headers)[b"job-status"] == b"failed"
    assert b"503 Service Unavailable" in body


FACTS = GuestFacts(
    gate_url=f"http://10.0.2.2/m/{A}",
    clone_url="http://gitlab.test",
    hosts=(("10.0.2.2", "gitlab.test"), ("10.0.2.2", "registry.test")),
    ca_pem="-----BEGIN",
    runner_config={
        "output_limit": 8192,
        "url": "http://evil",
        "token": "stolen",
        "feature_flags": {"FF_USE_FASTZIP": True},
    },
    trust_pem="-----MORE",
    proxy_environment={"https_proxy": "http://proxy:3128"},
)


def test_a_pool_adds_to_the_runners_configuration_but_never_unties_it_from_the_gate() -> None:
    [runner] = tomllib.loads(runner_config('quo"te', FACTS))["runners"]

    assert (runner["url"], runner["token"]) == (f"http://10.0.2.2/m/{A}", 'quo"te')
    assert (runner["output_limit"], runner["feature_flags"]) == (8192, {"FF_USE_FASTZIP": True})
    assert runner["tls-ca-file"] == "/run/firerunner/ca.pem"


def test_the_welcome_is_a_plain_tar_of_private_files() -> None:
    with tarfile.open(fileobj=io.BytesIO(welcome(A, "c", FACTS, 1234)), mode="r:") as tar:
        entries = {entry.name: (entry.mode, entry.uid, entry.mtime) for entry in tar}

    assert entries == {
        "run/firerunner": (0o700, 0, 1234),
        "run/firerunner/config.toml": (0o600, 0, 1234),
        "run/firerunner/hosts": (0o600, 0, 1234),
        "run/firerunner/epoch": (0o600, 0, 1234),
        "run/firerunner/env": (0o600, 0, 1234),
        "run/firerunner/.runner_system_id": (0o600, 0, 1234),
        "run/firerunner/ca.pem": (0o600, 0, 1234),
        "run/firerunner/trust.pem": (0o600, 0, 1234),
    }


def files_of(facts: GuestFacts) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(welcome(A, "c", facts, 1234)), mode="r:") as tar:
        return {
            entry.name.rpartition("/")[2]: (file.read().decode() if (file := tar.extractfile(entry)) else "")
            for entry in tar
        }


def test_everything_trusts_what_gitlab_and_the_pool_name_and_the_runner_gitlabs_alone() -> None:
    files = files_of(FACTS)

    assert files["trust.pem"] == "-----BEGIN\n-----MORE"
    assert files["ca.pem"] == "-----BEGIN"
    assert "trust.pem" not in files_of(replace(FACTS, ca_pem=None, trust_pem=None))


def test_a_proxy_is_told_to_the_runner_and_to_its_jobs() -> None:
    pool = {"environment": ["https_proxy=http://mine:1", "A=b"]}
    files = files_of(replace(FACTS, runner_config=pool))
    [runner] = tomllib.loads(files["config.toml"])["runners"]

    assert files["env"] == "https_proxy=http://proxy:3128\n"
    assert runner["environment"] == ["https_proxy=http://proxy:3128", "https_proxy=http://mine:1", "A=b"]


def test_containers_find_the_names_that_the_guest_finds() -> None:
    docker = {"image": "alpine:3", "extra_hosts": ["mine:10.0.0.1"], "privileged": True}
    files = files_of(replace(FACTS, runner_config={"executor": "docker", "docker": docker}))
    [runner] = tomllib.loads(files["config.toml"])["runners"]

    assert runner["docker"] == {
        "image": "alpine:3",
        "privileged": True,
        "volumes": ["/cache"],
        "extra_hosts": ["mine:10.0.0.1", "gitlab.test:10.0.2.2", "registry.test:10.0.2.2"],
    }
    assert "shell" not in runner
    assert files["docker-daemon.json"] == "{}"


def test_jobs_without_an_image_get_one() -> None:
    [runner] = tomllib.loads(files_of(replace(FACTS, runner_config={"executor": "docker"}))["config.toml"])[
        "runners"
    ]

    assert runner["docker"]["image"] == "debian:12"


def test_the_docker_engine_is_told_what_the_pool_says() -> None:
    daemon = {"registry-mirrors": ["https://mirror.test"]}

    assert json.loads(files_of(replace(FACTS, docker_daemon=daemon))["docker-daemon.json"]) == daemon
    assert "docker-daemon.json" not in files_of(FACTS)


def test_the_system_id_has_the_form_that_the_runner_accepts() -> None:
    assert runner_system_id("fr-0123456789ab") == "r_0123456789ab"
