"""`firerunner demo`: the whole thing on this computer."""

from __future__ import annotations

import asyncio
import json
import signal
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live

from firerunner.building import build
from firerunner.cli.output import errors, out, print_table, reported
from firerunner.demo.play import Play, Result
from firerunner.demo.stage import RESTART_S, Stage, cache_dir, demo_recipe, set_up
from firerunner.demo.verdict import complaints
from firerunner.demo.watch import Changes, Row, table
from firerunner.images import Image, Store
from firerunner.telemetry import configure_logs


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on the last line.")] = False,
    runner_binary: Annotated[
        Path | None,
        typer.Option("--runner-binary", envvar="FIRERUNNER_GITLAB_RUNNER", help="A gitlab-runner for Linux."),
    ] = None,
    restart_after: Annotated[
        float, typer.Option(help="Seconds until the service is started again, should you kill it.")
    ] = RESTART_S,
    hosts: Annotated[
        int, typer.Option(min=0, max=9, help="So many hosts with (fake) Flintlocks; one is lost half way.")
    ] = 0,
) -> None:
    """Run a sample pipeline in real microVMs, against a faithful GitLab, and judge the outcome.

    A job is cancelled, a VM is killed, a webhook is lost. While it runs, kill the service as well
    (its process id is shown): it is started again and no job is lost.

    With `--hosts`, machines run on several hosts instead, and one of them loses its power in mid-job.

    Exit status 0 only if everything went as it should.

    Example: firerunner demo --hosts 3 --json --runner-binary ./gitlab-runner-linux-amd64
    """
    configure_logs("warning", "console")
    try:
        image, result = asyncio.run(_demo(runner_binary, restart_after, hosts))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    wrong = complaints(result.outcomes, result.observed, result.nonce)
    if not result.leftovers.none:
        wrong.append(f"left over: {asdict(result.leftovers)}")
    _show(result, wrong)
    if as_json:
        typer.echo(json.dumps(_report(image, result, ok=not wrong)))
    if wrong:
        raise typer.Exit(1)


async def _demo(runner_binary: Path | None, restart_after: float, hosts: int) -> tuple[Image, Result]:
    _clean_up_at(signal.SIGTERM)
    store = cache_dir() / "images"
    with reported() as progress:
        image = await build(demo_recipe(runner_binary), Store(store), runner_binary, progress=progress)
    runner = image.manifest.runner
    errors.print(f"image {image.manifest.digest[:12]}: {runner.kind} gitlab-runner {runner.version}")
    _clean_up_at(signal.SIGTERM, signal.SIGINT)
    async with set_up(store, image.manifest.digest, restart_after_s=restart_after, hosts=hosts) as stage:
        errors.print(f"GitLab (a faithful fake) listens at {stage.gitlab.url}")
        errors.print(f"FireRunner serves as process {stage.service.pid}")
        errors.print(f"FireRunner by hand: {' '.join(stage.service.command)}", soft_wrap=True)
        return image, await _play(stage)


def _clean_up_at(*numbers: signal.Signals) -> None:
    """Have this task cancelled by the first of them; the others change nothing, or machines would be left."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    said = False

    def interrupt() -> None:
        nonlocal said
        errors.print("still cleaning up: machines and service end first" if said else "cleaning up")
        if not said and task is not None:
            said = True
            task.cancel()

    for number in numbers:
        loop.add_signal_handler(number, interrupt)


async def _play(stage: Stage) -> Result:
    if not errors.is_terminal:
        changes = Changes(errors)
        return await Play(stage, changes.show).run()
    with Live(console=errors, refresh_per_second=4) as live:

        def show(rows: list[Row]) -> None:
            live.update(table(rows, f"FireRunner, process {stage.service.pid or 'not running'}"))

        return await Play(stage, show).run()


def _show(result: Result, wrong: list[str]) -> None:
    print_table(
        "jobs",
        ("job", "status", "reason", "machine", "vCPU", "MiB", "running", "output", "total"),
        [
            (
                outcome.name,
                outcome.status,
                outcome.failure_reason,
                outcome.machine,
                outcome.facts.vcpu,
                outcome.facts.memory_mib,
                _s(outcome.seconds.pending_to_running),
                _s(outcome.seconds.running_to_first_output),
                _s(outcome.seconds.total),
            )
            for outcome in result.outcomes
        ],
    )
    out.print(
        "running: seconds from pending to running; output: from there to the first line; total: to the end."
    )
    for sentence in wrong:
        errors.print(f"not as it should be: {sentence}", style="red", markup=False)
    if wrong:
        errors.print(f"the service said:\n{result.service_log}", markup=False, highlight=False)
    else:
        out.print("Everything went as it should; nothing is left.")


def _s(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def _report(image: Image, result: Result, *, ok: bool) -> dict[str, Any]:
    runner = image.manifest.runner
    return {
        "ok": ok,
        "runner": f"{runner.kind} {runner.version}",
        "nonce": result.nonce,
        "jobs": [
            {
                "name": outcome.name,
                "id": outcome.id,
                "status": outcome.status,
                "failure_reason": outcome.failure_reason,
                "machine": outcome.machine,
                "guest_kernel": outcome.facts.guest_kernel,
                "vcpu": outcome.facts.vcpu,
                "memory_mib": outcome.facts.memory_mib,
                "nonce": outcome.facts.nonce,
                "seconds": asdict(outcome.seconds),
            }
            for outcome in result.outcomes
        ],
        "leftover": asdict(result.leftovers),
    }
