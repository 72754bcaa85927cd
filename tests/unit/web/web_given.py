"""Given: the web application over a real ledger, with settings and a peer that each test chooses."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from starlette.types import ASGIApp

from firerunner.gate.looking import Seen
from firerunner.intake import Door
from firerunner.ledger import (
    HostUse,
    JobRecord,
    JobState,
    Keyring,
    Ledger,
    MachineRecord,
    MachineState,
    NewJob,
)
from firerunner.machines.spec import Resources
from firerunner.planning import PoolState
from firerunner.settings import ApiSettings, WebhookSettings
from firerunner.telemetry import Metrics
from firerunner.telemetry.catalogue import API_REQUESTS
from firerunner.web import (
    Access,
    Acts,
    Dashboard,
    Fleet,
    Host,
    Operations,
    Pool,
    Readiness,
    Size,
    create_api,
    create_web,
)

READ, OPERATE = "r" * 32, "o" * 32
A, B, GONE = "fr-aaaaaaaaaaaa", "fr-bbbbbbbbbbbb", "fr-cccccccccccc"
SMALL = Resources(1, 512, 1024)
CANARIES = ("canary-job-token", "canary-ci-secret", "c0ffee" * 10, "canary-sized-token", READ, OPERATE)
ANSWER = b'{"id":7,"token":"canary-job-token","variables":[{"key":"K","value":"canary-ci-secret"}]}'


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@dataclass
class Given:
    """What a test holds."""

    ledger: Ledger
    hosts: list[str] = field(default_factory=lambda: ["kvm-1", "local"])
    destroyed: list[tuple[str, str]] = field(default_factory=list)
    looked: list[tuple[str, str]] = field(default_factory=list)
    seen: Seen | None = None
    cancelled: list[int] = field(default_factory=list)
    consoles: dict[str, bytes] = field(default_factory=dict)
    more: list[MachineRecord] = field(default_factory=list)
    """Machines that the ledger does not know; quicker than to write many into it."""
    silent: str | None = None
    """Why the one pool does not ask."""
    state: PoolState | None = PoolState.ASKING
    """Of the one pool."""
    leads: bool = True
    now: float = 1000.0
    """For sessions."""

    def __post_init__(self) -> None:
        self.metrics = Metrics()
        self.access = Access(lambda: self.now)
        what = self.operations = Operations(
            ledger=self.ledger,
            host_names=self._host_names,
            hosts=self._hosts,
            pools=self._pools,
            fleet=self._fleet,
            console=self._console,
            destroy=self._destroy,
            cancel=self._cancel,
            look=self._look,
        )
        acts = Acts(what)
        door = Door(lambda hook: None, lambda outcome: None)
        self.dashboard = Dashboard(what, acts, self.access, self._count)
        self.app: ASGIApp = create_web(
            door.endpoint,
            self._ready,
            self.metrics,
            create_api(what, acts, self.access, self._count),
            self.dashboard,
        )

    def configure(
        self, read: str | None = READ, operate: str | None = OPERATE, *, loopback: bool = False, **web: Any
    ) -> None:
        tokens = {"read_token": read, "operate_token": operate}
        said: dict[str, Any] = {name: SecretStr(token) for name, token in tokens.items() if token}
        self.access.configure(ApiSettings(open_on_loopback=loopback, **said), WebhookSettings(**web))

    async def ask(
        self,
        path: str,
        token: str | None = None,
        *,
        method: str = "GET",
        headers: Mapping[str, str | bytes] | Sequence[tuple[str, str]] = (),
        peer: str = "192.0.2.1",
        url: str = "http://firerunner.example.com",
        **more: Any,
    ) -> httpx.Response:
        transport = httpx.ASGITransport(self.app, client=(peer, 50_000))
        said: list[tuple[str, Any]] = list(bearer(token).items()) if token else []
        said += headers.items() if isinstance(headers, Mapping) else headers
        async with httpx.AsyncClient(transport=transport, base_url=url) as http:
            return await http.request(method, path, headers=said, **more)

    async def act(self, path: str, token: str | None = OPERATE, reason: str = "why") -> httpx.Response:
        return await self.ask(f"/api/v1/{path}", token, method="POST", json={"reason": reason})

    def _count(self, right: str, status: int) -> None:
        self.metrics.count(API_REQUESTS, right, status)

    def counted(self, right: str, status: int) -> float:
        labels = {"right": right, "status": str(status)}
        return self.metrics.registry.get_sample_value("firerunner_api_requests_total", labels) or 0.0

    def crowd(self, count: int) -> None:
        """So many `more` machines."""
        state = MachineState.RESERVED
        self.more = [
            MachineRecord(f"fr-{number:012d}", "small", "kvm-1", state, 900.0, SMALL, "sha256:1", 900.0)
            for number in range(count)
        ]

    async def move_one_of_crowd(self, number: int, to: MachineState) -> None:
        """Its state changes, and the journal tells."""
        self.more[number] = replace(self.more[number], state=to)
        await self.ledger.note("machine", self.more[number].machine_id, "moved")

    async def fill(self) -> None:
        """A machine with a job and all its secrets, one without, and one that is gone."""
        ledger = self.ledger
        await ledger.reserve(A, "small", "kvm-1", SMALL, "sha256:1")
        await ledger.begin_ask(A)
        await ledger.keep_answer(A, ANSWER)
        await ledger.take(A, NewJob(7, "canary-job-token", "build \U0001f680", 3, "group/project", 3600))
        await ledger.move_machine(A, MachineState.CREATING, credential_hash="c0ffee" * 10)
        await ledger.set_credential(A, "c0ffee" * 10)
        await ledger.reserve(B, "small", "kvm-1", SMALL, "sha256:1")
        await ledger.reserve(GONE, "small", "local", SMALL, "sha256:1")
        await ledger.begin_ask(GONE)
        await ledger.keep_answer(GONE, ANSWER)
        await ledger.take(GONE, NewJob(8, "canary-job-token", "test", 3, "group/project", None))
        await ledger.move_job(8, JobState.ENDED, gitlab_status="success")
        await ledger.move_machine(GONE, MachineState.RETIRING)
        await ledger.move_machine(GONE, MachineState.GONE)
        await ledger.note("machine", A, "half a character", {"error": "\ud83d"})
        await ledger.add_sized_runner(
            **{"pool": "sized", "gitlab": "gitlab", "template": "t", "tag": "x", "project_id": 1},
            **{"vcpu": 1, "memory_mib": 1, "runner_id": 1, "token": "canary-sized-token"},
        )

    def _host_names(self) -> Collection[str]:
        return self.hosts

    async def _hosts(self) -> list[Host]:
        orders, machines = await self.ledger.host_orders(), await self.ledger.machines()
        size, room = (
            Size(vcpu=6, memory_mib=24_576, disk_mib=51_200),
            Size(vcpu=16, memory_mib=65_536, disk_mib=409_600),
        )
        return [
            Host(
                **{"name": name, "driver": "qemu", "labels": {"zone": "a"}, "trouble": None},
                use=orders[name].use if name in orders else HostUse.NORMAL,
                reason=orders[name].reason if name in orders else "",
                use_since=orders[name].since if name in orders else None,
                machines=sum(machine.host == name for machine in machines),
                jobs=sum(machine.host == name and machine.job_id is not None for machine in machines),
                used=size,
                room=room if name == "kvm-1" else None,
            )
            for name in self.hosts
        ]

    async def _pools(self) -> list[Pool]:
        machines = await self.ledger.machines()
        return [
            Pool(
                **{"name": "small", "gitlab": "gitlab", "image": "debian-12", "executor": "shell"},
                **{
                    "limit": 20,
                    "warm_wished": 3,
                    "warm": 2,
                    "warm_coming": 1,
                    "warm_fewer": None,
                    "machines": len(machines),
                    "jobs": 1,
                    "state": self.state,
                    "silent": self.silent,
                },
                resources=Size.model_validate(SMALL),
            )
        ]

    async def _fleet(self) -> Fleet:
        machines, jobs = await self.ledger.machines(), await self.ledger.jobs()
        return Fleet(await self._hosts(), await self._pools(), [*machines, *self.more], jobs, self.leads)

    async def _console(self, machine: MachineRecord, max_bytes: int) -> bytes:
        return self.consoles.get(machine.machine_id, b"")[-max_bytes:]

    async def _cancel(self, job: JobRecord) -> None:
        self.cancelled.append(job.job_id)

    async def _destroy(self, machine_id: str, reason: str) -> None:
        self.destroyed.append((machine_id, reason))

    async def _look(self, machine_id: str, script: str) -> Seen | None:
        self.looked.append((machine_id, script))
        return self.seen

    async def _ready(self) -> Readiness:
        return Readiness(ready=True, reasons={}, pools={})


async def opened(folder: Path) -> Ledger:
    return await Ledger.open(
        f"sqlite:///{folder / 'ledger.db'}", Keyring.load_or_create(folder / "ledger.key"), lambda: 1000.0
    )


def said(answer: httpx.Response) -> str:
    message: str = json.loads(answer.content)["message"]
    return message
