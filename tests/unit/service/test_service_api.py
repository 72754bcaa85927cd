"""The whole service's operator API: tokens out of files, taken up anew; acts that are in force."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from test_settings_act import serving

from firerunner.app import open_ledger
from firerunner.demo.stage import free_port
from firerunner.ledger import HostUse
from firerunner.settings import load_settings

pytestmark = pytest.mark.anyio

READ, OPERATE, NEW = "r" * 32, "o" * 32, "n" * 32


async def ask(port: int, path: str, token: str | None = None, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(trust_env=False) as http:
        return await http.request(
            more.pop("method", "GET"), f"http://127.0.0.1:{port}/api/v1/{path}", headers=headers, **more
        )


async def test_tokens_open_the_api_and_are_taken_up_anew(tmp_path: Path) -> None:
    port = free_port()
    listen = {"web": f"127.0.0.1:{port}", "gate": f"127.0.0.1:{free_port()}"}
    (tmp_path / "read").write_text(f"{READ}\n")
    (tmp_path / "operate").write_text(f"{OPERATE}\n")
    api = {"read_token_file": "read", "operate_token_file": "operate"}
    async with serving(tmp_path, listen=listen, api=api) as it, asyncio.timeout(60):
        assert (await ask(port, "jobs")).status_code == 401
        assert (await ask(port, "jobs", READ)).json() == {"items": [], "next": None}
        why = {"json": {"reason": "new kernel"}, "method": "POST"}
        assert (await ask(port, "hosts/local/drain", READ, **why)).status_code == 403
        assert (await ask(port, "hosts/local/drain", OPERATE, **why)).status_code == 200
        (host,) = (await ask(port, "hosts", READ)).json()
        (pool,) = (await ask(port, "pools", READ)).json()
        (tmp_path / "read").write_text(NEW)
        while (await ask(port, "jobs", NEW)).status_code != 200:
            await asyncio.sleep(0.2)
        assert (await ask(port, "jobs", READ)).status_code in {401, 429}
        async with open_ledger(load_settings(it.config)) as ledger:
            order = (await ledger.host_orders())["local"]

    assert (order.use, order.reason) == (HostUse.DRAINING, "new kernel")
    assert (host["use"], host["name"], host["driver"]) == ("draining", "local", "qemu")
    assert (pool["name"], pool["state"], bool(pool["silent"])) == ("small", "blocked", True)
    assert not any(token in it.log for token in (READ, OPERATE, NEW))


async def test_on_loopback_it_is_open_if_that_is_said(tmp_path: Path) -> None:
    port = free_port()
    listen = {"web": f"127.0.0.1:{port}", "gate": f"127.0.0.1:{free_port()}"}
    async with serving(tmp_path, listen=listen, api={"open_on_loopback": True}):
        assert (await ask(port, "jobs")).status_code == 200
        why = {"json": {"reason": "new kernel"}, "method": "POST"}
        assert (await ask(port, "hosts/local/drain", **why)).status_code == 403


async def test_the_dashboard_is_live_and_does_not_hold_up_the_end(tmp_path: Path) -> None:
    port = free_port()
    listen = {"web": f"127.0.0.1:{port}", "gate": f"127.0.0.1:{free_port()}"}
    rest = b""
    async with httpx.AsyncClient(trust_env=False, base_url=f"http://127.0.0.1:{port}") as http:
        async with (
            serving(tmp_path, listen=listen, api={"open_on_loopback": True}) as it,
            asyncio.timeout(60),
        ):
            page = await http.get("/")
            request = http.build_request("GET", "/live", params={"view": "pools", "have": "nothing"})
            stream = await http.send(request, stream=True)
            pieces = stream.aiter_bytes()
            got = b""
            while b"event: change" not in got:
                got += await anext(pieces)
        async for piece in pieces:
            rest += piece
        await stream.aclose()

    assert (page.status_code, 'id="pool-small"' in page.text) == (200, True)
    assert b"small" in got + rest
    assert "Traceback" not in it.log
    assert "stopped" in it.log
