"""The actor that makes a machine: credential, driver, and what happens when the host cannot."""

from __future__ import annotations

from firerunner.control.context import Context
from firerunner.control.failing import fail_machine
from firerunner.control.hosts import pause_host
from firerunner.control.ids import new_credential
from firerunner.errors import FireRunnerError, ImageError, MachineError, NotLeader, StaleWrite
from firerunner.ledger import MachineState
from firerunner.machines.spec import MachineSpec
from firerunner.telemetry.catalogue import LAUNCHES

LIFETIME_SLACK_S = 900.0


async def launch(ctx: Context, machine_id: str, pool_name: str) -> None:
    """Create the machine that is reserved for this pool under this id. Never raises for what a host does."""
    async with ctx.locks[machine_id]:
        credential, credential_hash = new_credential()
        pool = ctx.pools[pool_name]  # looked up once: what it is given now is written down as that
        try:
            machine, seq = await ctx.ledger.begin_launch(machine_id, credential_hash, ctx.baked(pool))
        except StaleWrite:
            return  # it is under way already, or not wanted any more
        ctx.post_machine(machine)
        try:
            image = ctx.resolve_image(machine.image_digest)
            await ctx.assure()
            spec = MachineSpec(
                machine_id=machine_id,
                resources=machine.resources,
                image=image.files,
                gate=ctx.gate_address,
                credential=credential,
                egress=ctx.egress(pool),
                restore=pool.start == "restored" and not image.manifest.cloud_init,
                max_lifetime_s=pool.boot_timeout + pool.warm.max_age + pool.max_job_time + LIFETIME_SLACK_S,
            )
            with ctx.driving("create", machine):
                started = await ctx.drivers[machine.host].create(spec)
        except NotLeader:
            raise
        except FireRunnerError as error:
            await ctx.ledger.done(seq, f"failed: {error.message}")
            cause = "image" if isinstance(error, ImageError) else "host"
            ctx.metrics.count(LAUNCHES, machine.pool, machine.host, cause)
            ctx.log.error("launch failed", machine=machine_id, host=machine.host, error=str(error))
            # The reason reaches the job's log, whose readers need not know this computer's paths.
            why = (
                "its image cannot be used" if isinstance(error, ImageError) else "its host could not make it"
            )
            await fail_machine(ctx, machine_id, why)
            if isinstance(error, MachineError):
                await pause_host(ctx, machine.host, str(error))
            return
        ctx.started(machine_id, started)
        await ctx.ledger.done(seq, f"created {started}")
        ctx.metrics.count(LAUNCHES, machine.pool, machine.host, "created")
        try:
            machine = await ctx.ledger.move_machine(
                machine_id,
                MachineState.BOOTING,
                expect=MachineState.CREATING,
                vmm_started_at=ctx.clock(),
            )
        except StaleWrite:
            return  # the guest's first word was quicker, and the gate has moved it on
        ctx.post_machine(machine)
