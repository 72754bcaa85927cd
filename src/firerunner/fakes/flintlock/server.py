"""The fake itself: the gRPC service, its errors, its token and its TLS, and its life as a daemon.

Follows Flintlock infrastructure/grpc/server.go (plain Go errors become UNKNOWN) and pkg/auth/basic.go.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf import empty_pb2

from firerunner.fakes.flintlock.misbehave import Misbehaviour
from firerunner.fakes.flintlock.reconciler import Reconciler
from firerunner.fakes.flintlock.records import DELETING, Record, new_ulid, stored, with_defaults
from firerunner.fakes.flintlock.validation import FIRECRACKER, panics, refusal
from firerunner.fakes.flintlock.vmm import PaperVmm, Vmm
from firerunner.machines.flintlock.proto import service_pb2

SERVICE = "microvm.services.api.v1alpha1.MicroVM"
Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """Certificate and key of the daemon, and whom it lets in; PEM."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None = None
    """Set: --tls-client-validate with this authority."""


class FakeFlintlock:
    """One host. `async with` starts the daemon; records and VMMs outlive `die` and `start`."""

    def __init__(
        self,
        *,
        vmm: Vmm | None = None,
        token: str | None = None,
        identity: Identity | None = None,
        bridge: str = "br0",
        providers: tuple[str, ...] = (FIRECRACKER,),
        pace: float = 100.0,
    ) -> None:
        """`pace`: how much faster than real the waits of retries and resyncs are."""
        self.vmm = vmm or PaperVmm()
        self.records: dict[str, Record] = {}
        self.calls: list[str] = []
        self.address = ""
        self.pull_s: dict[str, float] = {}
        """Seconds that a pull of an image takes, by reference."""
        self._token = token
        self._identity = identity
        self._bridge = bridge
        self._providers = providers
        self._pace = pace
        self._misbehaviours: list[Misbehaviour] = []
        self._server: grpc.aio.Server | None = None
        self._working: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()
        for record in list(self.records.values()):
            await self.vmm.remove(record)

    async def start(self) -> None:
        """The daemon comes up, on the same port as before, and reconciles all that it knows."""
        self._reconciler = Reconciler(self.records, self.vmm, bridge=self._bridge, pace=self._pace)
        self._reconciler.pull_s = self.pull_s
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self._handler(),))
        wanted = self.address or "127.0.0.1:0"
        port = (
            server.add_secure_port(wanted, _server_credentials(self._identity))
            if self._identity
            else server.add_insecure_port(wanted)
        )
        self.address = f"127.0.0.1:{port}"
        await server.start()
        self._server = server
        self._working = asyncio.create_task(self._reconciler.run())
        self._reconciler.resync()

    async def die(self) -> None:
        """SIGKILL to the daemon: calls break off, VMMs and records stay."""
        server, self._server = self._server, None
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
        for each in self._misbehaviours:
            each.release()
        if server is not None:
            await server.stop(None)

    def misbehave(self, call: str = "", **how: Any) -> Misbehaviour:
        """Have the next calls go wrong; `how` are the fields of `Misbehaviour`."""
        made = Misbehaviour(call, **how)
        self._misbehaviours.append(made)
        return made

    def resync(self) -> None:
        """What the daemon does every ten minutes, now."""
        self._reconciler.resync()

    def _handler(self) -> grpc.GenericRpcHandler:
        unary: dict[str, tuple[Any, Callable[[Any, Context], Awaitable[Any]]]] = {
            "CreateMicroVM": (service_pb2.CreateMicroVMRequest, self._create),
            "DeleteMicroVM": (service_pb2.DeleteMicroVMRequest, self._delete),
            "GetMicroVM": (service_pb2.GetMicroVMRequest, self._get),
            "ListMicroVMs": (service_pb2.ListMicroVMsRequest, self._list),
        }
        handlers: dict[str, Any] = {
            call: grpc.unary_unary_rpc_method_handler(
                self._around(call, serve), kind.FromString, lambda answer: answer.SerializeToString()
            )
            for call, (kind, serve) in unary.items()
        }
        handlers["ListMicroVMsStream"] = grpc.unary_stream_rpc_method_handler(
            self._stream,
            service_pb2.ListMicroVMsRequest.FromString,
            lambda answer: answer.SerializeToString(),
        )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    def _around(self, call: str, serve: Callable[[Any, Context], Awaitable[Any]]) -> Any:
        async def handle(request: Any, context: Context) -> Any:
            await self._authenticate(context)
            self.calls.append(call)
            wrong = next((each for each in self._misbehaviours if each.applies(call)), None)
            if wrong is None:
                return await serve(request, context)
            if wrong.code is not None:
                await context.abort(wrong.code, wrong.text)
            if wrong.lose_reply:
                await serve(request, context)
            if wrong.hang:
                await wrong.released.wait()
            return await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")

        return handle

    async def _authenticate(self, context: Context) -> None:
        if self._token is None:
            return
        headers = dict(context.invocation_metadata() or ())
        scheme, _, value = str(headers.get("authorization", "")).partition(" ")
        if scheme.lower() != "basic":
            text = (
                "could not extract token from request header: rpc error: code = Unauthenticated "
                "desc = Request unauthenticated with basic"
            )
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, text)
        if value != base64.b64encode(self._token.encode()).decode():
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED,
                "invalid auth token: failed basic authentication. Check the token supplied",
            )

    async def _create(self, request: Any, context: Context) -> Any:
        if not request.HasField("microvm"):
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "invalid create microvm request: MicroVMSpec required"
            )
        if panics(request.microvm):
            asyncio.get_running_loop().create_task(self.die())
            await asyncio.Event().wait()
        spec = with_defaults(request.microvm)
        text = refusal(spec, self._providers, self._providers[0])
        if text is not None:
            await context.abort(grpc.StatusCode.UNKNOWN, text)
        record = stored(spec, new_ulid(), self._providers[0])
        self.records[record.uid] = record
        self._reconciler.soon(record.uid)
        return service_pb2.CreateMicroVMResponse(microvm=record.shown())

    async def _delete(self, request: Any, context: Context) -> Any:
        record = await self._found(request.uid, "deleting microvm: ", context)
        record.deleted, record.state, record.retry = True, DELETING, 0
        record.version += 1
        self._reconciler.soon(record.uid)
        return empty_pb2.Empty()

    async def _get(self, request: Any, context: Context) -> Any:
        record = await self._found(request.uid, "getting microvm: ", context)
        return service_pb2.GetMicroVMResponse(microvm=record.shown())

    async def _found(self, uid: str, prefix: str, context: Context) -> Record:
        if not uid:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "invalid request")
        record = self.records.get(uid)
        if record is None:
            await context.abort(
                grpc.StatusCode.UNKNOWN,
                f"{prefix}error attempting to locate microvm: microvm spec {uid} not found",
            )
            raise AssertionError("abort raises")
        return record

    async def _list(self, request: Any, _context: Context) -> Any:
        return service_pb2.ListMicroVMsResponse(
            microvm=[record.shown() for record in self._matching(request.namespace, request.name)]
        )

    async def _stream(self, request: Any, context: Context) -> AsyncIterator[Any]:
        await self._authenticate(context)
        if not request.namespace:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "invalid request")
        for record in self._matching(request.namespace, ""):
            yield service_pb2.ListMessage(microvm=record.shown())

    def _matching(self, namespace: str, name: str) -> list[Record]:
        """In the order of a Go map: none."""
        found = [
            record
            for record in self.records.values()
            if namespace in ("", record.spec.namespace) and name in ("", record.spec.id)
        ]
        random.shuffle(found)
        return found


def _server_credentials(identity: Identity) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(identity.key, identity.certificate)],
        root_certificates=identity.client_ca,
        require_client_auth=identity.client_ca is not None,
    )
