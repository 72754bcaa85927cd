"""Calls to Flintlock: what is repeated and what never is, TLS and token, and what each error means."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from firerunner.errors import HostUnreachable, HostUnusable, MachineError, SettingsError, SpecRefused
from firerunner.fakes.flintlock import FakeFlintlock
from firerunner.machines.flintlock.answers import NotThere, meaning
from firerunner.machines.flintlock.channel import Endpoint, Tls, open_channel

from .flintlock_given import NAMESPACE, Papers, client_of, spec

pytestmark = pytest.mark.anyio

Code = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (Code.UNKNOWN, "getting microvm: microvm spec x not found", NotThere),
        (Code.NOT_FOUND, "no such thing", NotThere),
        (Code.UNKNOWN, "creating microvm: … validation failures found: Key …", SpecRefused),
        (Code.INVALID_ARGUMENT, "invalid request", SpecRefused),
        (Code.UNKNOWN, "macvtap network interfaces not supported by the microvm provider", SpecRefused),
        (Code.UNKNOWN, "microvm provider x isn't available", SpecRefused),
        (Code.UNAUTHENTICATED, "invalid auth token: tokens do not match", HostUnusable),
        (Code.UNKNOWN, "could not extract token from request header", HostUnusable),
        (Code.UNIMPLEMENTED, "unknown service", HostUnusable),
        (Code.UNKNOWN, "containerd is away", HostUnusable),
        (Code.INTERNAL, "x", HostUnusable),
        (Code.UNAVAILABLE, "connection refused", HostUnreachable),
        (Code.DEADLINE_EXCEEDED, "Deadline Exceeded", HostUnreachable),
    ],
)
def test_errors_are_told_apart_by_code_and_text(code: Code, text: str, kind: type[MachineError]) -> None:
    error = meaning("kvm1:9090", "GetMicroVM", code, text)

    assert type(error) is kind
    assert "kvm1:9090" in error.message
    assert kind is NotThere or error.remedy


async def test_a_lost_reply_to_a_create_is_not_repeated_and_the_microvm_is_found_by_its_name() -> None:
    async with FakeFlintlock() as fake, client_of(fake) as client:
        fake.misbehave("CreateMicroVM", lose_reply=True)
        with pytest.raises(HostUnreachable):
            await client.create(spec("fr-one-attempt"))
        found = await client.list(NAMESPACE, "fr-one-attempt")

    assert len(found) == 1
    assert fake.calls.count("CreateMicroVM") == 1


async def test_what_changes_nothing_is_repeated() -> None:
    async with FakeFlintlock() as fake, client_of(fake) as client:
        uid = (await client.create(spec())).spec.uid
        fake.misbehave("GetMicroVM", times=2, code=Code.UNAVAILABLE, text="Socket closed")
        fake.misbehave("DeleteMicroVM", lose_reply=True)

        assert await client.get(uid) is not None
        await client.delete(uid)

    assert fake.calls.count("GetMicroVM") == 3
    assert fake.calls.count("DeleteMicroVM") == 2


async def test_a_refusal_is_not_repeated() -> None:
    async with FakeFlintlock() as fake, client_of(fake) as client:
        fake.misbehave("ListMicroVMs", code=Code.UNKNOWN, text="containerd is away")
        with pytest.raises(HostUnusable, match="containerd is away"):
            await client.list(NAMESPACE)

    assert fake.calls == ["ListMicroVMs"]


async def test_a_host_that_hangs_is_given_up() -> None:
    async with FakeFlintlock() as fake, client_of(fake, timeout_s=0.2) as client:
        hanging = fake.misbehave("CreateMicroVM", hang=True)
        with pytest.raises(HostUnreachable, match="did not answer CreateMicroVM in time"):
            await client.create(spec())
        hanging.release()


async def test_more_than_grpcs_usual_message_is_taken() -> None:
    async with FakeFlintlock() as fake, client_of(fake) as client:
        for number in range(60):
            large = spec(f"fr-{number}")
            large.metadata["user-data"] = "A" * 100_000
            await client.create(large)

        assert len(await client.list(NAMESPACE)) == 60


async def test_the_token_is_shown_and_a_wrong_or_missing_one_is_told() -> None:
    async with FakeFlintlock(token="s3cret") as fake:
        async with client_of(fake, token="s3cret") as client:
            assert await client.list(NAMESPACE) == []
        for token in ("other", None):
            async with client_of(fake, token=token) as client:
                with pytest.raises(HostUnusable, match="token") as refused:
                    await client.list(NAMESPACE)
            assert "--basic-auth-token" in refused.value.remedy
            assert "s3cret" not in str(refused.value)


def test_no_secret_is_shown() -> None:
    assert "s3cret" not in repr(Endpoint("kvm1:9090", None, "s3cret"))


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


async def test_certificates_of_both_sides_and_a_token(papers: Papers) -> None:
    async with (
        FakeFlintlock(identity=papers.host(asks=True), token="s3cret") as fake,
        client_of(fake, tls=papers.ours(), token="s3cret") as client,
    ):
        assert await client.list(NAMESPACE) == []


@pytest.mark.parametrize(
    ("identity", "tls", "word"),
    [
        ({"asks": True}, "ca alone", "client certificate"),
        ({}, "none", "authority"),
        ({}, "clear", "flintlockd"),
        ({"name": "kvm1.example.com"}, "ca alone", "server_name"),
        ({"expired": True}, "ca alone", "expired"),
        (None, "ca alone", "speak TLS"),
    ],
)
async def test_each_way_not_to_get_through_has_its_remedy(
    papers: Papers, identity: dict[str, Any] | None, tls: str, word: str
) -> None:
    kinds = {"ca alone": Tls(papers.hosts.file), "none": Tls(), "clear": None}
    host = None if identity is None else papers.host(**identity)
    async with FakeFlintlock(identity=host) as fake, client_of(fake, tls=kinds[tls], timeout_s=5) as client:
        with pytest.raises(HostUnreachable) as refused:
            await client.list(NAMESPACE)

    assert word in refused.value.remedy, refused.value.message


async def test_the_name_in_the_certificate_may_be_named(papers: Papers) -> None:
    named = Tls(papers.hosts.file, server_name="kvm1.example.com")
    async with (
        FakeFlintlock(identity=papers.host("kvm1.example.com")) as fake,
        client_of(fake, tls=named) as client,
    ):
        assert await client.list(NAMESPACE) == []


def test_a_certificate_that_cannot_be_read_is_named() -> None:
    with pytest.raises(SettingsError, match="cannot read /nowhere"):
        open_channel(Endpoint("kvm1:9090", Tls(ca_file=Path("/nowhere/ca.pem"))))


async def test_what_is_not_flintlock_is_told() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    web = await asyncio.start_server(http, "127.0.0.1", 0)
    other = grpc.aio.server()
    port = other.add_insecure_port("127.0.0.1:0")
    await other.start()
    try:
        for place, words in (
            (web.sockets[0].getsockname()[1], "cannot be reached"),
            (port, "UNIMPLEMENTED"),
        ):
            fake = FakeFlintlock()
            fake.address = f"127.0.0.1:{place}"
            async with client_of(fake, timeout_s=3) as client:
                with pytest.raises(HostUnusable, match=words):
                    await client.list(NAMESPACE)
    finally:
        web.close()
        await other.stop(None)
