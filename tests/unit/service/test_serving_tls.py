"""Serving over TLS: from 1.2 on, a renewed certificate without a restart, no hand-shake for ever."""

from __future__ import annotations

import ssl
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from serving_given import SHORT, Client, connected, serving, trusting, write_certificate

from firerunner.errors import SettingsError
from firerunner.serving import Certificate

pytestmark = pytest.mark.anyio
REQUEST = b"GET /safe HTTP/1.1\r\nHost: door\r\n\r\n"


def serial(client: Client) -> int:
    raw = client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(raw).serial_number


async def test_requests_are_answered_over_tls(tmp_path: Path) -> None:
    files, number = write_certificate(tmp_path)
    async with serving(certificate=files) as place, connected(place, ssl=trusting(files)) as client:
        await client.say(REQUEST)

        assert await client.answer() == b"/safe"
        assert serial(client) == number


async def test_older_tls_is_refused(tmp_path: Path) -> None:
    files, _ = write_certificate(tmp_path)
    old = trusting(files)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    async with serving(certificate=files) as place:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await place.connect(ssl=old)


async def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path: Path) -> None:
    files, first = write_certificate(tmp_path)
    async with serving(certificate=files) as place, connected(place, ssl=trusting(files)) as old:
        _, second = write_certificate(tmp_path)
        place.handle.renew_certificate()

        async with connected(place, ssl=trusting(files)) as new:
            assert [serial(old), serial(new)] == [first, second]
        await old.say(REQUEST)
        assert await old.answer() == b"/safe"


async def test_a_renewal_that_cannot_be_used_leaves_the_old_certificate(tmp_path: Path) -> None:
    files, first = write_certificate(tmp_path)
    trust = trusting(files)
    other, _ = write_certificate(tmp_path, "other")
    assert files.key and other.key
    async with serving(certificate=files) as place:
        files.key.write_bytes(other.key.read_bytes())

        with pytest.raises(SettingsError, match=r"one\.crt.*one\.key.*web_cert_file"):
            place.handle.renew_certificate()

        async with connected(place, ssl=trust) as client:
            assert serial(client) == first


async def test_without_tls_there_is_nothing_to_renew() -> None:
    async with serving() as place, connected(place) as client:
        place.handle.renew_certificate()
        await client.say(REQUEST)

        assert await client.answer() == b"/safe"


async def test_chain_and_key_may_stand_in_one_file(tmp_path: Path) -> None:
    files, _ = write_certificate(tmp_path)
    assert files.key
    both = Certificate(tmp_path / "both.pem")
    both.chain.write_bytes(files.chain.read_bytes() + files.key.read_bytes())

    assert both.context().minimum_version == ssl.TLSVersion.TLSv1_2


async def test_a_missing_file_and_an_encrypted_key_are_named(tmp_path: Path) -> None:
    locked, _ = write_certificate(tmp_path, password=b"pass phrase")

    with pytest.raises(SettingsError, match="not encrypted"):
        locked.context()
    with pytest.raises(SettingsError, match=r"nowhere\.crt: No such file"):
        Certificate(tmp_path / "nowhere.crt").context()


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01"])
async def test_a_handshake_that_does_not_end_is_cut_off(tmp_path: Path, said: bytes) -> None:
    files, _ = write_certificate(tmp_path)
    async with serving(certificate=files) as place, connected(place) as client:
        await client.say(said)

        assert await client.rest() == b""
        await place.emptied()


async def test_plain_http_and_half_a_head_are_cut_off_as_well(tmp_path: Path) -> None:
    files, _ = write_certificate(tmp_path)
    async with serving(certificate=files) as place, connected(place) as plain:
        await plain.say(REQUEST)
        async with connected(place, ssl=trusting(files)) as slow:
            await slow.say(b"GET /safe HTTP/1.1\r\n")

            assert b"/safe" not in await plain.rest()
            assert await slow.rest() == b""
        await place.emptied()


async def test_handshakes_count_and_give_way_to_a_request(tmp_path: Path) -> None:
    files, _ = write_certificate(tmp_path)
    patient = replace(SHORT, head_s=60.0, connections=2)
    async with (
        serving(patient, certificate=files) as place,
        connected(place) as first,
        connected(place) as second,
        connected(place, ssl=trusting(files)) as client,
    ):
        await client.say(REQUEST)

        assert await client.answer() == b"/safe"
        assert await first.rest() == b""
        assert place.handle.connections == 2
        await second.close()
