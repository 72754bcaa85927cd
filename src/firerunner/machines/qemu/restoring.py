"""Machines that start from saved states where there are good ones, and boot where there are none.

A machine whose restore fails boots instead, in the same call: its guest has not spoken yet, so its
credential is as good as new. A restored guest that never comes to the gate brings its state in doubt.
"""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from firerunner.errors import BootFailed
from firerunner.machines.qemu import statefile
from firerunner.machines.qemu.command import Start, machine_command
from firerunner.machines.qemu.host import Host
from firerunner.machines.qemu.local import LocalMachines
from firerunner.machines.qemu.order import Saved
from firerunner.machines.qemu.saving import SavedStates
from firerunner.machines.qemu.starting import program
from firerunner.machines.qemu.statefile import Phase
from firerunner.machines.qemu.statekey import state_facts
from firerunner.machines.spec import ImageFiles, MachineSpec, Resources, Started

TEMPLATE_ID: Final = "fr-template0000"
"""Machine id of a template, which only its own processes and directory are named by."""

TEMPLATE_LIFETIME_S: Final = 90.0
SILENT_S: Final = 60.0
"""A restored guest that has not come to the gate for so long is no good."""

CPUINFO = Path("/proc/cpuinfo")


class RestoringMachines:
    """`machines`, and the templates and states that they are restored from. Blocking calls, of any thread."""

    def __init__(
        self, state_dir: Path, machines: LocalMachines, templates: LocalMachines, host: Host, qemu: str
    ) -> None:
        self._machines = machines
        self._templates = templates
        self._host = host
        self._qemu = qemu
        self.states = SavedStates(state_dir / "states", self._save, self._clear, self._facts)

    def create(self, spec: MachineSpec) -> Started:
        """Restore the machine if that is wanted and possible, else boot it. Raises as `LocalMachines`."""
        if not spec.restore:
            return self._machines.create(spec)
        with self.states.found(spec) as saved:
            if saved is not None:
                try:
                    return self._machines.create(spec, saved)
                except BootFailed as error:
                    self.states.distrust(saved.key, f"{error.message}. The machine boots instead")
        return self._machines.create(spec)

    def destroy(self, machine_id: str) -> None:
        """Remove all of the machine; see what became of a restored one."""
        state = statefile.read(self._machines.directory / machine_id)
        if state is not None and state.get("start") == Started.RESTORED and never_booted(state, time.time()):
            self.states.distrust(state["state"], f"{machine_id}, restored from it, never came to the gate")
        self._machines.destroy(machine_id)

    def save(self, image: ImageFiles, resources: Resources) -> None:
        """Have a state for such machines; returns when there is one, or none could be made."""
        self.states.prepare(_template(image, resources)).result()

    def prune(self, wanted: Sequence[tuple[ImageFiles, Resources]]) -> list[str]:
        """Remove all other states."""
        return self.states.prune([_template(image, resources) for image, resources in wanted])

    def close(self) -> None:
        """Give up what is being saved."""
        self.states.close(lambda: self._templates.interrupt(TEMPLATE_ID))

    def _save(self, spec: MachineSpec, saved: Saved) -> None:
        try:
            self._templates.create(_template(spec.image, spec.resources), saved)
            self._templates.read_disk(TEMPLATE_ID, saved.disk)
        finally:
            self._clear()

    def _clear(self) -> None:
        self._templates.destroy(TEMPLATE_ID)

    def _facts(self, spec: MachineSpec) -> Mapping[str, str]:
        qemu = program(self._qemu)
        resources = spec.resources
        command = machine_command(
            qemu,
            Path("/"),
            self._host.accelerator(qemu, spec.image),
            self._host.tsc_khz(),
            vcpu=resources.vcpu,
            memory_mib=resources.memory_mib,
            start=Start.TEMPLATE,
        )
        return state_facts(
            image=spec.image.digest,
            qemu=self._host.version(qemu),
            command=command,
            disk_mib=resources.disk_mib,
            cpuinfo=_cpuinfo(),
            kernel=platform.release(),
        )


def never_booted(state: Mapping[str, Any], now: float) -> bool:
    """Whether a machine with this state file, which is about to be removed, should have come to the gate and
    has not."""
    if state.get("booted"):
        return False
    return bool(state["phase"] == Phase.ENDED or now - state.get("since", now) > SILENT_S)


def _template(image: ImageFiles, resources: Resources) -> MachineSpec:
    """Without a gate, and with a credential that is none."""
    return MachineSpec(
        TEMPLATE_ID, resources, image, "127.0.0.1:1", "none", max_lifetime_s=TEMPLATE_LIFETIME_S
    )


@functools.cache
def _cpuinfo() -> str:
    return CPUINFO.read_text(errors="replace")
