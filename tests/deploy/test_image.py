"""`deploy/docker/Dockerfile`, built by podman on Debian's packages, and its containers run for real."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import asyncpg
import httpx
import pytest
import yaml

from firerunner import __version__
from firerunner.demo.stage import free_port
from tests import postgresql
from tests.certificates import authority
from tests.deploy import engine
from tests.deploy.engine import Engine

pytestmark = [
    pytest.mark.skipif(not os.environ.get("SLOW"), reason="SLOW=1 switches it on: it builds images"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run another user's containers"),
    pytest.mark.timeout(3000),
]

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
UID = 10001
START_S = 90.0


@pytest.fixture(scope="module")
def images() -> Iterator[Engine]:
    """`firerunner` and `firerunner-qemu`."""
    with engine.running() as here:
        here.load_base()
        for name, target in (("firerunner", "control"), ("firerunner-qemu", "qemu")):
            here.podman(
                *("build", "--isolation=chroot", "--network=host", "--format=docker", "--layers"),
                *("--build-arg", f"BASE={engine.BASE}", "--target", target, "--tag", name),
                *("--file", ROOT / "deploy" / "docker" / "Dockerfile", ROOT),
            )
        yield here


def settings(folder: Path, changed: dict[str, Any]) -> Path:
    """Compose's own configuration with other values, in a directory of the container's user."""
    config = yaml.safe_load((COMPOSE / "firerunner" / "config.yaml").read_text())
    nowhere = f"127.0.0.1:{free_port()}"
    config["gitlab"]["url"] = f"http://{nowhere}"
    config["hosts"][0]["address"] = nowhere
    for section, values in changed.items():
        config[section] = config[section] | values
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    chain, key = authority(folder).server(folder, ["gate.example.com"])
    for name in ("gate", "firerunner"):
        shutil.copy(chain, folder / f"{name}.pem")
        shutil.copy(key, folder / f"{name}.key")
    for name in ("webhook-secret", "api-read", "api-operate", "kvm-1.token", "small.token"):
        (folder / name).write_text(f"{name}-{'x' * 32}\n")
    for path in (folder, *folder.iterdir()):
        os.chown(path, UID, UID)
        path.chmod(0o700 if path is folder else 0o600)
    return folder


def as_compose_runs_it(config: Path) -> list[str]:
    """The options of the service `firerunner` in compose.yaml, as podman's."""
    service = yaml.safe_load((COMPOSE / "compose.yaml").read_text())["services"]["firerunner"]
    assert service["read_only"]
    options = ["--read-only", "--read-only-tmpfs=false"]
    options += [f"--cap-drop={each}" for each in service["cap_drop"]]
    options += [f"--security-opt={each.replace(':true', '')}" for each in service["security_opt"]]
    options += [f"--tmpfs={each}" for each in service["tmpfs"]]
    for volume in service["volumes"]:
        options.append(f"--volume={volume.replace('./firerunner', str(config), 1)}")
    return options


def health(here: Engine, name: str) -> str:
    """What the health check finds, run now; nothing if all is well."""
    return here.podman("healthcheck", "run", name, status=None).strip()


def until_healthy(here: Engine, name: str) -> None:
    until = time.monotonic() + START_S
    while health(here, name):
        assert time.monotonic() < until, here.podman("logs", name)
        time.sleep(0.5)


def test_the_image_says_what_it_is_and_holds_no_tools_to_install(images: Engine) -> None:
    config = images.inspect("image", "firerunner")["Config"]

    assert config["User"] == f"{UID}:{UID}"
    assert config["Entrypoint"] == ["tini", "--", "firerunner"]
    assert config["Cmd"] == ["serve"]
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8443/tcp"}
    assert set(config["Volumes"]) == {"/var/lib/firerunner"}
    assert images.podman("run", "--rm", "firerunner", "--version") == f"firerunner {__version__}\n"
    found = images.podman(
        *("run", "--rm", "--entrypoint=sh", "firerunner", "-c"),
        "id -u; stat -c '%u %a' /var/lib/firerunner; ls /opt/firerunner/bin; ls -A /source /build",
        status=None,
    )
    assert found.startswith(f"{UID}\n{UID} 711\n")
    assert "pip" not in found
    assert found.count("No such file or directory") == 2


def test_its_health_check_tells_a_service_that_answers_from_none(images: Engine, tmp_path: Path) -> None:
    config = settings(tmp_path / "etc", {"listen": {"gate_https": f"127.0.0.1:{free_port()}"}})
    said = yaml.safe_load((config / "config.yaml").read_text())
    del said["database"]
    (config / "config.yaml").write_text(yaml.safe_dump(said))
    alone = ("--network=none", "--detach")
    images.podman("run", *alone, "--name=none", "--entrypoint=tini", "firerunner", "--", "sleep", "600")
    images.podman("run", *alone, "--name=one", f"--volume={config}:/etc/firerunner:ro", "firerunner")

    until_healthy(images, "one")

    assert health(images, "none") == "unhealthy"
    images.podman("stop", "--time=60", "one")
    assert images.inspect("container", "one")["State"]["ExitCode"] == 0
    images.podman("rm", "--force", "--time=0", "one", "none")


async def _tables(url: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval("SELECT version_num FROM alembic_version"))
    finally:
        await connection.close()


@pytest.mark.anyio
async def test_as_compose_runs_it_it_serves_with_postgresql(images: Engine, tmp_path: Path) -> None:
    web = free_port()
    listen = {"web": f"127.0.0.1:{web}", "gate_https": f"127.0.0.1:{free_port()}"}
    config = settings(tmp_path / "etc", {"listen": listen})
    with postgresql.running() as server:
        url = await server.fresh_url()
        (config / "database-url").write_text(f"{url}\n")
        os.chown(config / "database-url", UID, UID)
        images.podman("run", "--detach", "--name=composed", *as_compose_runs_it(config), "firerunner")
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{web}", trust_env=False) as http:
                ready = await _once_it_leads(http, images)
                page = await http.get("/static/dashboard.js")
            assert ready.keys() & {"controller", "database"} == set()
            assert page.status_code == 200
            assert await _tables(url)
            status = images.podman("exec", "composed", "cat", "/proc/self/status")
            assert "CapBnd:\t0000000000000000" in status
            assert "NoNewPrivs:\t1" in status
        finally:
            images.podman("rm", "--force", "--time=60", "composed")


async def _once_it_leads(http: httpx.AsyncClient, here: Engine) -> dict[str, str]:
    """The reasons of its `/ready`, once it has missed its host."""
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError):
            reasons = (await http.get("/ready")).json()["reasons"]
            if "host kvm-1" in reasons:
                return dict(reasons)
        await anyio.sleep(0.2)
    raise AssertionError(here.podman("logs", "composed"))


def test_machines_can_be_made_in_the_other_image(images: Engine, tmp_path: Path) -> None:
    tun = tmp_path / "tun"
    subprocess.run(["mknod", "-m", "666", str(tun), "c", "10", "200"], check=True)

    found = images.podman(
        *("run", "--rm", "--cap-drop=all", "--security-opt=no-new-privileges"),
        *(f"--device={tun}:/dev/net/tun", "firerunner-qemu", "doctor", "--json"),
    )

    assert "machines can be made here" in found
    assert images.inspect("image", "firerunner-qemu")["Config"]["StopSignal"] in {"SIGINT", "2"}
