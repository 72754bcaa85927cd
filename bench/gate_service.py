"""`python -m bench.gate_service URL`: the gate before a GitLab at URL, and machines with running jobs.

The real gate on its real server, over a ledger in a file; prints its URL as a line of JSON. Ends with
standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from bench.gate_parts import DEPENDENCY, MACHINES, REDIRECTED, job_token, machine_name
from firerunner.clock import SteadyClock
from firerunner.gate import GateEvent, GuestFacts, create_gate
from firerunner.gitlab import JobClient, new_http
from firerunner.ledger import JobState, Keyring, Ledger, MachineRecord, MachineState, NewJob
from firerunner.listening import listen
from firerunner.machines.spec import Resources
from firerunner.serving import served
from firerunner.telemetry import configure_logs


async def main(gitlab_url: str) -> None:
    """Serve until standard input ends."""
    configure_logs("info", "json")
    with tempfile.TemporaryDirectory(prefix="firerunner-bench-") as folder:
        keys = Keyring.load_or_create(Path(folder) / "keys")
        ledger = await Ledger.open(f"sqlite:///{folder}/ledger.db", keys, SteadyClock())
        for number in range(MACHINES):
            await _running(ledger, number)

        def facts(machine: MachineRecord) -> GuestFacts:
            direct = gitlab_url if machine.machine_id in REDIRECTED else None
            return GuestFacts("http://gate.test", gitlab_url, artifacts_url=direct)

        def notify(event: GateEvent) -> None:
            """There is no controller."""

        async with new_http(max_connections=2 * MACHINES) as http:
            jobs = JobClient(gitlab_url, http)
            gate = create_gate(
                ledger=ledger,
                gitlab=lambda name: jobs,
                facts=facts,
                notify=notify,
                clock=ledger.clock,
            )
            gate.open()
            listener = listen("gate", "127.0.0.1:0")
            port = listener.getsockname()[1]
            async with served(gate, listener):
                print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
                await asyncio.to_thread(sys.stdin.read)
        await ledger.aclose()


async def _running(ledger: Ledger, number: int) -> None:
    name, token = machine_name(number), job_token(number)
    await ledger.reserve(name, "demo", "local", Resources(1, 256, 1024), "sha256:1", asking=True)
    answer = {"id": number + 1, "token": token, "dependencies": [{**DEPENDENCY, "name": "before"}]}
    await ledger.keep_answer(name, json.dumps(answer).encode())
    job = await ledger.take(name, NewJob(number + 1, token, "unit", 7, "grp/app", 3600))
    await ledger.end_ask(name, "job")
    for step in (MachineState.CREATING, MachineState.BOOTING):
        await ledger.move_machine(name, step)
    await ledger.boot(name)
    await ledger.deliver(job.job_id)
    assert (await ledger.job(job.job_id)).state is JobState.DELIVERED  # type: ignore[union-attr]


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
