"""Which host a machine goes to: one where machines have just failed to boot comes after all others."""

from __future__ import annotations

from firerunner.machines.spec import Resources
from firerunner.planning import HostFacts
from firerunner.planning.entries import FIRST_SHUN_S, Host
from firerunner.planning.placement import pick

ROOM, NEED = Resources(8, 8192, 65536), Resources(1, 1024, 1024)


def a_host(name: str, used: int = 0) -> Host:
    return Host(name, facts=HostFacts(name, ROOM, usable=True), used=Resources(used, used, used))


def test_an_empty_host_that_fails_does_not_draw_all_jobs_to_it() -> None:
    hosts = {"empty": a_host("empty"), "used": a_host("used", used=4)}
    assert pick(hosts, hosts, NEED, 100.0) == "empty"

    hosts["empty"].note_failure(100.0)

    assert pick(hosts, hosts, NEED, 100.0) == "used"
    assert pick(hosts, hosts, NEED, 101.0 + FIRST_SHUN_S) == "empty"


def test_a_host_that_fails_is_better_than_none() -> None:
    hosts = {"only": a_host("only")}
    hosts["only"].note_failure(100.0)

    assert pick(hosts, hosts, NEED, 100.0) == "only"


def test_it_is_shunned_for_longer_with_each_failure() -> None:
    host = a_host("failing")
    spans = []
    for _ in range(3):
        host.note_failure(0.0)
        spans.append(host.shunned_until)

    assert spans == [FIRST_SHUN_S, 2 * FIRST_SHUN_S, 4 * FIRST_SHUN_S]
