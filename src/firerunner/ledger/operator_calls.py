"""The ledger's calls about what operators and sized tags want."""

from __future__ import annotations

from firerunner.ledger import (
    host_orders,
    sized,
)
from firerunner.ledger.handle import Handle
from firerunner.ledger.records import (
    HostOrder,
    HostUse,
    SizedRunner,
)


class OperatorCalls(Handle):
    """Orders on hosts, and runners that were made for sized tags."""

    async def sized_runners(self) -> list[SizedRunner]:
        """Oldest first, with their tokens in clear."""
        return await self._read(lambda tx: sized.select(tx, self._keys))

    async def add_sized_runner(
        self,
        *,
        pool: str,
        gitlab: str,
        template: str,
        tag: str,
        project_id: int | None,
        vcpu: int,
        memory_mib: int,
        runner_id: int,
        token: str,
    ) -> SizedRunner:
        """Write a runner down that was made in GitLab. `StaleWrite` if its pool has one."""
        now = self._access.clock()
        runner = SizedRunner(
            pool=pool,
            gitlab=gitlab,
            template=template,
            tag=tag,
            project_id=project_id,
            vcpu=vcpu,
            memory_mib=memory_mib,
            runner_id=runner_id,
            token=token,
            created_at=now,
            used_at=now,
        )
        return await self._write(lambda tx: sized.add(tx, runner, self._keys))

    async def touch_sized_runner(self, pool: str) -> None:
        """It has a job, or was asked for."""
        await self._write(lambda tx: sized.touch(tx, pool))

    async def begin_remove_sized_runner(self, pool: str, *, reason: str) -> None:
        """From now on it takes no more jobs."""
        await self._write(lambda tx: sized.begin_remove(tx, pool, reason))

    async def remove_sized_runner(self, pool: str) -> None:
        """It is gone from GitLab."""
        await self._write(lambda tx: sized.remove(tx, pool))

    async def host_orders(self) -> dict[str, HostOrder]:
        """What operators have said, by the host's name; of most hosts nothing."""
        return await self._read(host_orders.select)

    async def use_host(self, host: str, use: HostUse, reason: str = "") -> None:
        """An operator says whether machines are made there."""
        await self._write(lambda tx: host_orders.use(tx, host, use, reason))

    async def believe_host(self, host: str) -> None:
        """An operator says that what the host shows now is true, however many machines it lacks."""
        await self._write(lambda tx: host_orders.believe(tx, host))
