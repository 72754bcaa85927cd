"""What the API tells: in bounded pages, and never a secret."""

from __future__ import annotations

from typing import Any

import pytest
from web_given import CANARIES, GONE, READ, SMALL, A, B, Given

pytestmark = pytest.mark.anyio

PATHS = (
    *("jobs?which=all", "jobs/7", "machines?which=all", f"machines/{A}", "hosts", "pools"),
    *("journal?limit=1000", "openapi.json"),
)


async def told(given: Given, path: str) -> Any:
    answer = await given.ask(f"/api/v1/{path}", READ)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_jobs_and_machines_are_told(given: Given) -> None:
    await given.fill()

    assert [job["job_id"] for job in (await told(given, "jobs"))["items"]] == [7]
    assert [job["job_id"] for job in (await told(given, "jobs?which=all"))["items"]] == [8, 7]
    assert [each["machine_id"] for each in (await told(given, "machines"))["items"]] == [A, B]
    assert [each["machine_id"] for each in (await told(given, "machines?which=all"))["items"]] == [A, B, GONE]
    assert (await told(given, "jobs/7"))["machine_id"] == A
    machine = await told(given, f"machines/{A}")
    assert (machine["job_id"], machine["resources"]["memory_mib"]) == (7, SMALL.memory_mib)


async def test_pages_lead_through_all_of_it_once(given: Given) -> None:
    await given.fill()

    first = await told(given, "jobs?which=all&limit=1")
    second = await told(given, f"jobs?which=all&limit=1&before={first['next']}")
    third = await told(given, f"jobs?which=all&limit=1&before={second['next']}")
    assert [page["items"] and page["items"][0]["job_id"] for page in (first, second, third)] == [8, 7, []]
    assert third["next"] is None
    one = await told(given, "machines?which=all&limit=2")
    two = await told(given, f"machines?which=all&limit=2&after={one['next']}")
    assert [each["machine_id"] for each in one["items"] + two["items"]] == [A, B, GONE]
    assert two["next"] is None


async def test_the_journal_is_followed(given: Given) -> None:
    await given.fill()

    everything = await told(given, "journal?limit=1000")
    part = await told(given, "journal?limit=3")
    rest = await told(given, f"journal?limit=1000&after={part['next']}")
    about = await told(given, f"journal?subject={B}")
    nothing_new = await told(given, f"journal?after={everything['next']}")

    assert part["items"] + rest["items"] == everything["items"]
    assert {entry["subject"] for entry in about["items"]} == {B}
    assert nothing_new == {"items": [], "next": everything["next"]}


@pytest.mark.parametrize(
    "path",
    [
        *("jobs?limit=1001", "jobs?limit=0", "jobs?limit=x", "machines?limit=1001", "journal?limit=1001"),
        *("journal?after=-1", "journal?after=9223372036854775808", "journal?subject=%00", "jobs?limt=1"),
        *("jobs/9223372036854775808", "jobs/x", "machines/kvm", "machines/%00", "jobs?which=some"),
        *("machines?after=%00", "journal?subject=" + "x" * 201),
    ],
)
async def test_what_is_asked_for_has_bounds(given: Given, path: str) -> None:
    answer = await given.ask(f"/api/v1/{path}", READ)

    assert answer.status_code == 422
    assert answer.json()["faults"]


@pytest.mark.parametrize("path", ["jobs/9", f"machines/{A}", "nothing", "hosts/kvm-1", "jobs/", "", "a%0Ab"])
async def test_what_there_is_not_is_not_found(given: Given, path: str) -> None:
    answer = await given.ask(f"/api/v1/{path}", READ)

    assert answer.status_code == 404
    assert set(answer.json()) == {"message", "faults"}


@pytest.mark.parametrize("path", PATHS)
async def test_no_answer_holds_a_secret(given: Given, path: str) -> None:
    await given.fill()
    answer = await given.ask(f"/api/v1/{path}", READ)

    assert answer.status_code == 200
    for canary in CANARIES:
        assert canary not in answer.text
    assert "credential_hash" not in answer.text


async def test_the_description_names_the_refusals(given: Given) -> None:
    described = await told(given, "openapi.json")

    assert described["servers"] == [{"url": "/api/v1"}]
    acts = {
        "/hosts/{host}/cordon",
        "/hosts/{host}/uncordon",
        "/hosts/{host}/drain",
        "/hosts/{host}/believe",
        "/machines/{machine_id}/destroy",
    }
    assert acts < set(described["paths"])
    for act in acts:
        assert {"401", "403", "404", "415", "422", "429"} < set(described["paths"][act]["post"]["responses"])
    assert {"401", "403", "404", "422", "429"} < set(described["paths"]["/jobs/{job_id}"]["get"]["responses"])
