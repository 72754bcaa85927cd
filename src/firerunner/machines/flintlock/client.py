"""Calls to one Flintlock, each with a deadline; what may be repeated is, what may not be is not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from google.protobuf.message import Message

from firerunner.errors import HostUnreachable
from firerunner.hiding import without
from firerunner.machines.flintlock.answers import NotThere, meaning
from firerunner.machines.flintlock.channel import Endpoint, call_metadata, open_channel
from firerunner.machines.flintlock.proto import service_pb2, types_pb2

SERVICE = "microvm.services.api.v1alpha1.MicroVM"
TIMEOUT_S = 30.0
TRIES = 3
FIRST_PAUSE_S = 0.2

Answer = TypeVar("Answer", bound=Message)


class FlintlockClient:
    """One Flintlock. All calls raise `MachineError`: see `answers.meaning`. Close it with `aclose()`."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float = TIMEOUT_S) -> None:
        """Raises SettingsError for a certificate that cannot be read. `timeout_s`: of each try of a call."""
        self.address = endpoint.address
        self._timeout_s = timeout_s
        self._token = endpoint.token
        self._metadata = call_metadata(endpoint)
        self._channel = open_channel(endpoint)

    async def aclose(self) -> None:
        """Close the connection; calls under way end."""
        await self._channel.close()

    async def create(self, spec: types_pb2.MicroVMSpec) -> types_pb2.MicroVM:
        """Never repeated: a second call makes a second microVM, whatever its name.

        After `HostUnreachable` it may be there all the same: `list` by its name tells.
        """
        request = service_pb2.CreateMicroVMRequest(microvm=spec)
        answer = await self._once("CreateMicroVM", request, service_pb2.CreateMicroVMResponse)
        return answer.microvm

    async def delete(self, uid: str) -> bool:
        """True if it was there. It goes some time later: `get` tells."""
        request = service_pb2.DeleteMicroVMRequest(uid=uid)
        try:
            await self._repeated("DeleteMicroVM", request, empty_pb2.Empty)
        except NotThere:
            return False
        return True

    async def get(self, uid: str) -> types_pb2.MicroVM | None:
        """None if it is not there."""
        request = service_pb2.GetMicroVMRequest(uid=uid)
        try:
            answer = await self._repeated("GetMicroVM", request, service_pb2.GetMicroVMResponse)
        except NotThere:
            return None
        return answer.microvm

    async def list(self, namespace: str, name: str | None = None) -> Sequence[types_pb2.MicroVM]:
        """All of a namespace, or those of one name in it, in no order. The namespace may not be empty: that
        would be every microVM on the host."""
        if not namespace:
            raise ValueError("a namespace is needed")
        request = service_pb2.ListMicroVMsRequest(namespace=namespace, name=name)
        answer = await self._repeated("ListMicroVMs", request, service_pb2.ListMicroVMsResponse)
        return list(answer.microvm)

    async def _repeated(self, call: str, request: Message, kind: type[Answer]) -> Answer:
        for attempt in range(TRIES - 1):
            try:
                return await self._once(call, request, kind)
            except HostUnreachable:
                await asyncio.sleep(FIRST_PAUSE_S * 2**attempt)
        return await self._once(call, request, kind)

    async def _once(self, call: str, request: Message, kind: type[Answer]) -> Answer:
        method: Any = self._channel.unary_unary(
            f"/{SERVICE}/{call}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=kind.FromString,
        )
        try:
            answer: Answer = await method(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            said = without(error.details() or "", (self._token,))
            raise meaning(self.address, call, error.code(), said) from error
        return answer
