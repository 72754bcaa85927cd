"""The files that a guest gets when it has booted, as one tar. Pure.

Facts about run-single's configuration: gitlab-runner commands/internal/configfile. It takes its
system id from `.runner_system_id` beside config.toml, but only one of the form `[sr]_` and 12
letters or digits; anything else is replaced by a made-up one. The gate does not depend on it.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any, Final

import tomli_w

from firerunner.gate.ports import GuestFacts

DIRECTORY: Final = "run/firerunner"
CA_FILE: Final = "ca.pem"
TRUST_FILE: Final = "trust.pem"
BUNDLE_FILE: Final = "ca-with-system"
DOCKER_FILE: Final = "docker-daemon.json"
RUNNER_NAME: Final = "firerunner"

DOCKER: Final = "docker"
DEFAULT_DOCKER_IMAGE: Final = "debian:12"
"""For jobs that name no image, in a pool that names none: the runner refuses to start without one."""


def welcome(machine_id: str, credential: str, facts: GuestFacts, epoch_s: int) -> bytes:
    """An uncompressed tar to be unpacked at `/`.

    What is to be trusted by everything in the guest is in `trust.pem`; a guest whose runner works with
    Docker has `docker-daemon.json`, which is what starts its Docker engine. Where the gate has an authority
    of its own, `ca-with-system` has the guest add its system's authorities to `ca.pem`, because the runner
    hands that file to git, for GitLab.
    """
    files = {
        "config.toml": runner_config(credential, facts),
        "hosts": "".join(f"{address}\t{name}\n" for address, name in facts.hosts),
        "epoch": f"{epoch_s}\n",
        "env": "".join(f"{key}={value}\n" for key, value in sorted(facts.proxy_environment.items())),
        ".runner_system_id": runner_system_id(machine_id),
    }
    known = [pem for pem in (facts.gate_ca_pem, facts.ca_pem) if pem]
    if known:
        files[CA_FILE] = "\n".join(known)
    if facts.gate_ca_pem is not None:
        files[BUNDLE_FILE] = ""
    trusted = [pem for pem in (facts.ca_pem, facts.trust_pem) if pem]
    if trusted:
        files[TRUST_FILE] = "\n".join(trusted)
    if facts.docker_daemon or _executor(facts) == DOCKER:
        files[DOCKER_FILE] = json.dumps(_plain(facts.docker_daemon))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(_entry(DIRECTORY, epoch_s, directory=True))
        for name, text in files.items():
            content = text.encode()
            entry = _entry(f"{DIRECTORY}/{name}", epoch_s)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def runner_config(credential: str, facts: GuestFacts) -> str:
    """config.toml for `run-single`: its GitLab is the gate, its runner token the credential.

    The pool may add keys, but not replace those that tie the runner to its gate.
    """
    given = _plain(facts.runner_config)
    runner: dict[str, Any] = {
        "executor": _executor(facts),
        **({"shell": "bash"} if _executor(facts) != DOCKER else {}),
        **given,
        "name": RUNNER_NAME,
        "url": facts.gate_url,
        "token": credential,
        "clone_url": facts.clone_url,
        "builds_dir": "/builds",
        "cache_dir": "/cache",
    }
    if facts.proxy_environment:
        named = [f"{key}={value}" for key, value in sorted(facts.proxy_environment.items())]
        runner["environment"] = [*named, *given.get("environment", [])]  # the pool's own come last and win
    if _executor(facts) == DOCKER:
        runner[DOCKER] = _docker(given.get(DOCKER, {}), facts)
    if facts.ca_pem is not None or facts.gate_ca_pem is not None:
        runner["tls-ca-file"] = f"/{DIRECTORY}/{CA_FILE}"
    return tomli_w.dumps({"concurrent": 1, "runners": [runner]})


def runner_system_id(machine_id: str) -> str:
    """The machine id in the form that gitlab-runner accepts: `fr-0123456789ab` is `r_0123456789ab`."""
    return "r_" + machine_id.rpartition("-")[2]


def _executor(facts: GuestFacts) -> str:
    return str(facts.runner_config.get("executor", "shell"))


def _docker(given: Mapping[str, Any], facts: GuestFacts) -> dict[str, Any]:
    """Containers have a hosts file of their own, so they are told the names that the guest is told."""
    hosts = [f"{name}:{address}" for address, name in facts.hosts]
    return {
        "image": DEFAULT_DOCKER_IMAGE,
        "volumes": ["/cache"],
        **given,
        "extra_hosts": [*given.get("extra_hosts", []), *hosts],
    }


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, Mapping) else value for key, value in config.items()}


def _entry(name: str, epoch_s: int, *, directory: bool = False) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mtime = epoch_s
    entry.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
    entry.mode = 0o700 if directory else 0o600
    entry.uname = entry.gname = "root"
    return entry
