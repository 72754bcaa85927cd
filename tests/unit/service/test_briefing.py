"""What guests are told: never another GitLab's address, whose jobs' tokens are not for it."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from firerunner.briefing import Briefing
from firerunner.errors import GitLabError
from firerunner.fakes.machines import FakeDriver
from firerunner.ledger import MachineRecord, MachineState
from firerunner.machines.spec import Resources
from firerunner.settings import GitLabSettings, PoolSettings, ProxySettings, Settings
from firerunner.settings.holding import HoldSettings

ONE = GitLabSettings(name="one", url="https://one.example.com")
TWO = GitLabSettings(name="two", url="https://two.example.com")


def pool(name: str, gitlab: str, **more: object) -> PoolSettings:
    return PoolSettings(name=name, gitlab=gitlab, runner_token=SecretStr("glrt-x"), image="i", **more)


def machine(gitlab: str) -> MachineRecord:
    return MachineRecord(
        machine_id="fr-0123456789ab",
        pool="theirs",
        host="local",
        state=MachineState.BUSY,
        state_since=0.0,
        resources=Resources(1, 1, 1),
        image_digest="d",
        created_at=0.0,
        gitlab=gitlab,
    )


class Given:
    """A briefing whose settings the test changes."""

    def __init__(self) -> None:
        self.pools = {"ours": pool("ours", "one"), "theirs": pool("theirs", "two")}
        self.settings = Settings(gitlab=(ONE, TWO), pools=tuple(self.pools.values()))
        self.briefing = Briefing(lambda: self.settings, self.pools.get, {"local": FakeDriver()})

    def take_out_the_second(self) -> None:
        self.settings = Settings(gitlab=(ONE,), pools=(self.pools["ours"],))


def test_a_gitlab_that_is_taken_out_is_still_the_one_of_its_jobs() -> None:
    given = Given()
    before = given.briefing.guest_facts(machine("two"))
    given.take_out_the_second()

    after = given.briefing.guest_facts(machine("two"))

    assert after == before
    assert (after.clone_url, after.artifacts_url) == (TWO.url, TWO.url)


def test_a_gitlab_that_nobody_knows_is_not_replaced_by_another() -> None:
    given = Given()
    given.take_out_the_second()

    with pytest.raises(GitLabError, match="'two' is not configured"):
        given.briefing.guest_facts(machine("two"))
    with pytest.raises(GitLabError, match="'two' is not configured"):
        given.briefing.egress(given.pools["theirs"])


def test_the_gate_knows_how_long_and_how_many_of_a_pool_are_kept() -> None:
    given = Given()
    assert given.briefing.guest_facts(machine("two")).hold_s == 0.0

    given.pools["theirs"] = pool("theirs", "two", hold=HoldSettings(time=120.0, limit=3))

    facts = given.briefing.guest_facts(machine("two"))
    assert (facts.hold_s, facts.hold_limit) == (120.0, 3)


def test_a_proxy_is_told_in_both_cases_and_never_for_the_gate() -> None:
    given = Given()
    proxy = ProxySettings(url=SecretStr("http://proxy.test:3128"), no_proxy=(".lan",))
    given.pools["theirs"] = pool("theirs", "two", proxy=proxy)

    told = given.briefing.guest_facts(machine("two")).proxy_environment

    assert {key.lower() for key in told} == {"http_proxy", "https_proxy", "no_proxy"}
    assert len(told) == 6
    gate = given.briefing.guest_facts(machine("two")).gate_url.split("/")[2].split(":")[0]
    assert {gate, "localhost", ".lan"} <= set(told["no_proxy"].split(","))
