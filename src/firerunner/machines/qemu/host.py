"""What holds for this computer until it starts again: found out once, kept in a file.

Measured for this boot of the computer; the accelerator also for this QEMU, this kernel and what /dev/kvm is.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

from firerunner.machines.qemu import statefile
from firerunner.machines.qemu.accelerator import find_accelerator
from firerunner.machines.qemu.checks import CHILD_ENVIRONMENT
from firerunner.machines.qemu.command import Accelerator
from firerunner.machines.qemu.identity import KVM_DEVICE
from firerunner.machines.qemu.tsc import measure_tsc_khz
from firerunner.machines.spec import ImageFiles

CACHE_FILE = "host.json"


class Host:
    """The facts of this computer, safe to ask from several threads."""

    def __init__(self, state_dir: Path, forced: str | None = None) -> None:
        """`forced` is an operator's choice of accelerator, taken without a test."""
        self._path = state_dir / CACHE_FILE
        self._forced = forced
        self._lock = threading.Lock()
        self._digests: dict[tuple[Path, int, int], str] = {}
        self._versions: dict[tuple[Path, int, int], str] = {}
        self.last: Accelerator | None = None

    def tsc_khz(self) -> int:
        """The rate of the time stamp counter. The first call takes a quarter of a second."""
        with self._lock:
            return self._tsc_khz(self._read())

    def accelerator(self, qemu: str, image: ImageFiles) -> Accelerator:
        """How guests of this image run. The first call may take ten seconds (see `accelerator`)."""
        with self._lock:
            if self._forced is not None:
                self.last = Accelerator(self._forced, "chosen in the settings")
                return self.last
            facts = self._read()
            key = f"{self._version(Path(qemu))} {self._digest(image.kernel)} {_kvm()}"
            if key not in facts["accelerators"]:
                found = find_accelerator(qemu, image, self._tsc_khz(facts))
                facts["accelerators"][key] = [found.kind, found.reason]
                self._write(facts)
            self.last = Accelerator(*facts["accelerators"][key])
            return self.last

    def version(self, qemu: str) -> str:
        """What this QEMU says that it is."""
        with self._lock:
            return self._version(Path(qemu))

    def _tsc_khz(self, facts: dict[str, Any]) -> int:
        if "tsc_khz" not in facts:
            facts["tsc_khz"] = measure_tsc_khz()
            self._write(facts)
        return int(facts["tsc_khz"])

    def _digest(self, kernel: Path) -> str:
        key = _stamp(kernel)
        if key not in self._digests:
            with kernel.open("rb") as file:
                self._digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[key]

    def _version(self, qemu: Path) -> str:
        """First line of `qemu --version`: starting it takes as long as all else that `create` does."""
        key = _stamp(qemu)
        if key not in self._versions:
            done = subprocess.run(
                [str(qemu), "--version"], capture_output=True, text=True, check=True, env=CHILD_ENVIRONMENT
            )
            self._versions[key] = done.stdout.partition("\n")[0]
        return self._versions[key]

    def _read(self) -> dict[str, Any]:
        boot_id = statefile.boot_id()
        try:
            facts = json.loads(self._path.read_text())
            if facts["boot_id"] == boot_id and isinstance(facts["accelerators"], dict):
                return dict(facts)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return {"boot_id": boot_id, "accelerators": {}}

    def _write(self, facts: dict[str, Any]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(facts))
        fresh.replace(self._path)


def _kvm() -> str:
    """Changes when the device comes, goes, or is given to somebody else, and with our own groups."""
    try:
        status = KVM_DEVICE.stat()
    except OSError:
        return "without"
    ours = ",".join(map(str, sorted({os.geteuid(), os.getegid(), *os.getgroups()})))
    return f"{status.st_mode:o}:{status.st_uid}:{status.st_gid} for {ours}"


def _stamp(path: Path) -> tuple[Path, int, int]:
    """Changes when the file does."""
    status = path.stat()
    return path, status.st_size, status.st_mtime_ns
