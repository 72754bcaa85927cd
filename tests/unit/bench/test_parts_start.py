"""The benches and the processes that they are made of start: nobody runs them between two releases."""

from __future__ import annotations

import importlib
import pkgutil

import bench
import httpx
import pytest
from bench.gate import process
from bench.gate_parts import job_token, machine_name

pytestmark = pytest.mark.anyio


def test_every_part_can_be_imported() -> None:
    names = {each.name for each in pkgutil.iter_modules(bench.__path__)} - {"__main__"}

    assert len(names) > 20
    for name in sorted(names):
        importlib.import_module(f"bench.{name}")


async def test_the_gate_stands_before_what_the_bench_asks_it_for() -> None:
    headers = {"Job-Token": job_token(0), "Content-Range": "0-3"}
    async with (
        process("bench.gate_fake") as upstream,
        process("bench.gate_service", upstream.url) as gate,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        url = f"{gate.url}/m/{machine_name(0)}/api/v4/jobs/1/trace"
        answer = await http.patch(url, content=b"four", headers=headers)

    assert (answer.status_code, answer.headers["job-status"]) == (202, "running")


async def test_the_floor_of_hooks_answers_every_hook() -> None:
    async with process("bench.hook_floor") as floor, httpx.AsyncClient(trust_env=False) as http:
        answer = await http.post(f"{floor.url}/webhook", json={})

    assert answer.status_code == 200
