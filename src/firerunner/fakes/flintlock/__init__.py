"""A faithful Flintlock on the wire, quirks and all, for the demo and the tests."""

from firerunner.fakes.flintlock.misbehave import Misbehaviour
from firerunner.fakes.flintlock.qemu_vmm import QemuVmm
from firerunner.fakes.flintlock.records import Record
from firerunner.fakes.flintlock.server import FakeFlintlock, Identity
from firerunner.fakes.flintlock.vmm import PaperVmm, Vmm, VmmError

__all__ = ["FakeFlintlock", "Identity", "Misbehaviour", "PaperVmm", "QemuVmm", "Record", "Vmm", "VmmError"]
