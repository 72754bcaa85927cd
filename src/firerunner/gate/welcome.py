"""The files that a guest gets when it has booted, as one tar. Pure.

Facts about run-single's configuration: gitlab-runner commands/internal/configfile. It takes its
system id from `.runner_system_id` beside config.toml, but only one of the form `[sr]_` and 12
letters or digits; anything else is replaced by a made-up one. The gate does not depend on it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from typing import Any, Final

import tomli_w

from firerunner.gate.ports import GuestFacts

DIRECTORY: Final = "run/firerunner"
CA_FILE: Final = "ca.pem"
RUNNER_NAME: Final = "firerunner"


def welcome(machine_id: str, credential: str, facts: GuestFacts, epoch_s: int) -> bytes:
    """An uncompressed tar to be unpacked at `/`."""
    files = {
        "config.toml": runner_config(credential, facts),
        "hosts": "".join(f"{address}\t{name}\n" for address, name in facts.hosts),
        "epoch": f"{epoch_s}\n",
        "env": "".join(f"{key}={value}\n" for key, value in sorted(facts.environment.items())),
        ".runner_system_id": runner_system_id(machine_id),
    }
    if facts.ca_pem is not None:
        files[CA_FILE] = facts.ca_pem
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
    runner: dict[str, Any] = {
        "executor": "shell",
        "shell": "bash",
        "builds_dir": "/builds",
        "cache_dir": "/cache",
        **_plain(facts.runner_config),
        "name": RUNNER_NAME,
        "url": facts.gate_url,
        "token": credential,
        "clone_url": facts.clone_url,
    }
    if facts.ca_pem is not None:
        runner["tls-ca-file"] = f"/{DIRECTORY}/{CA_FILE}"
    return tomli_w.dumps({"concurrent": 1, "runners": [runner]})


def runner_system_id(machine_id: str) -> str:
    """The machine id in the form that gitlab-runner accepts: `fr-0123456789ab` is `r_0123456789ab`."""
    return "r_" + machine_id.rpartition("-")[2]


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, Mapping) else value for key, value in config.items()}


def _entry(name: str, epoch_s: int, *, directory: bool = False) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mtime = epoch_s
    entry.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
    entry.mode = 0o700 if directory else 0o600
    entry.uname = entry.gname = "root"
    return entry
