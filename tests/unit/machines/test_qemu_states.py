"""Saved states: what names them, which ones are doubtful, which ones go; and that doubt means a cold boot."""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import threading
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from firerunner.errors import BootFailed
from firerunner.machines.qemu.command import Accelerator, Start, machine_command
from firerunner.machines.qemu.order import Saved
from firerunner.machines.qemu.restoring import never_booted
from firerunner.machines.qemu.saving import MAX_FAILURES, SavedStates
from firerunner.machines.qemu.statekey import key_of, processor, state_facts
from firerunner.machines.qemu.states import PIECE_BYTES, Doubtful, State, StateFiles, empty, seal
from firerunner.machines.spec import ImageFiles, MachineSpec, Resources

TCG, KVM = Accelerator("tcg", ""), Accelerator("kvm", "")
CPU = "processor: 0\nmodel name: One\nflags: sse avx\ncpu MHz: 2000.1\nprocessor: 1\nmodel name: One\n"
SIZE = 40 * PIECE_BYTES


def facts(**changed: Any) -> dict[str, str]:
    machine = {"accelerator": TCG, "tsc_khz": 2_000_000, "vcpu": 1, "memory_mib": 512} | changed
    sizes = {"vcpu": machine["vcpu"], "memory_mib": machine["memory_mib"]}
    directory = Path(changed.get("directory", "/state/machines/fr-0123456789ab"))
    return state_facts(
        image=changed.get("image", "digest"),
        qemu=changed.get("qemu", "QEMU 7.2"),
        command=machine_command(
            "qemu", directory, machine["accelerator"], machine["tsc_khz"], start=Start.TEMPLATE, **sizes
        ),
        disk_mib=changed.get("disk_mib", 1024),
        cpuinfo=changed.get("cpuinfo", CPU),
        kernel=changed.get("kernel", "6.1"),
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"image": "another"},
        {"qemu": "QEMU 8.0"},
        {"accelerator": KVM},
        {"tsc_khz": 2_000_001},
        {"vcpu": 2},
        {"memory_mib": 1024},
        {"disk_mib": 2048},
        {"cpuinfo": CPU.replace("sse avx", "sse")},
        {"kernel": "6.2"},
    ],
    ids=lambda changed: str(*changed),
)
def test_a_state_is_good_only_with_what_it_was_made_with(changed: Mapping[str, Any]) -> None:
    assert key_of(facts(**changed)) != key_of(facts())


def test_the_place_of_a_machine_and_the_speed_of_the_moment_do_not_count() -> None:
    moved = facts(directory="/elsewhere/fr-ba9876543210", cpuinfo=CPU.replace("2000.1", "1999.9"))

    assert key_of(moved) == key_of(facts())


def test_only_the_first_processor_is_looked_at() -> None:
    assert processor(CPU) == {"model name": "One", "flags": "sse avx"}


def test_a_restored_machine_has_the_devices_of_its_template_and_its_memory_only_to_read() -> None:
    def command(start: Start) -> list[str]:
        return machine_command("qemu", Path("/m"), TCG, 1, vcpu=1, memory_mib=512, start=start)

    template, restored = command(Start.TEMPLATE), command(Start.RESTORED)

    assert [word for word in restored if "share=off" in word]
    assert [word for word in template if "share=on" in word]
    assert devices(restored) == devices(template) == devices(command(Start.COLD))
    assert "-incoming" in restored
    assert "-kernel" not in restored


def devices(command: list[str]) -> list[str]:
    return [value for option, value in pairwise(command) if option == "-device"]


def made(pieces: Mapping[int, bytes] | None = None, devices: bytes = b"devices") -> State:
    state = State(empty("memory", SIZE), empty("devices"), empty("disk", SIZE))
    for at, piece in (pieces or {0: b"first", SIZE - 4: b"last"}).items():
        os.pwrite(state.memory, piece, at)
    os.pwrite(state.devices, devices, 0)
    os.pwrite(state.disk, b"disk", PIECE_BYTES)
    return state


def content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def test_a_state_comes_back_as_it_was_and_nobody_can_change_it(tmp_path: Path) -> None:
    files, state = StateFiles(tmp_path), made()

    files.write(facts(), state)
    found = files.read(facts())

    assert found is not None
    assert content(found.memory) == content(state.memory)
    assert content(found.devices) == b"devices"
    assert content(found.disk) == content(state.disk)
    for fd in (found.memory, found.devices, found.disk):
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 1)


def test_what_is_empty_takes_no_room_and_only_the_owner_may_read(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)

    files.write(facts(), made())

    paths = list((tmp_path / key_of(facts())).iterdir())
    assert sum(path.stat().st_size for path in paths) < 4 * PIECE_BYTES
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
    assert (tmp_path / key_of(facts())).stat().st_mode & 0o777 == 0o700


def cut_short(directory: Path) -> None:
    os.truncate(directory / "memory", 100)


def flip_memory(directory: Path) -> None:
    flip(directory / "memory", 50)


def flip_disk(directory: Path) -> None:
    flip(directory / "disk", 50)


def lose_disk(directory: Path) -> None:
    (directory / "disk").unlink()


def flip_devices(directory: Path) -> None:
    flip(directory / "devices", 3)


def beyond_its_end(directory: Path) -> None:
    path = directory / "memory"
    path.write_bytes((SIZE + 1).to_bytes(8, "little") + path.read_bytes()[8:])


def lose_facts(directory: Path) -> None:
    (directory / "facts.json").unlink()


def spoil_facts(directory: Path) -> None:
    (directory / "facts.json").write_text("{")


def of_another_version(directory: Path) -> None:
    path = directory / "facts.json"
    path.write_text(path.read_text().replace('"format": "', '"format": "0'))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [
        cut_short,
        flip_memory,
        flip_devices,
        flip_disk,
        lose_disk,
        beyond_its_end,
        lose_facts,
        spoil_facts,
        of_another_version,
    ],
)
def test_a_damaged_state_is_not_used(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    files = StateFiles(tmp_path)
    files.write(facts(), made())

    spoil(tmp_path / key_of(facts()))

    with pytest.raises(Doubtful):
        files.read(facts())


def test_a_state_under_the_name_of_another_is_not_used(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)
    files.write(facts(), made())
    (tmp_path / key_of(facts())).rename(tmp_path / key_of(facts(qemu="QEMU 8.0")))

    with pytest.raises(Doubtful, match="something else"):
        files.read(facts(qemu="QEMU 8.0"))


def test_what_a_killed_writer_left_is_no_state_and_goes_with_the_next_pruning(tmp_path: Path) -> None:
    files = StateFiles(tmp_path)
    files.write(facts(), made())
    files.write(facts(image="old"), made())
    (tmp_path / ".half-made-x").mkdir()

    gone = files.prune({key_of(facts())})

    assert gone == [key_of(facts(image="old"))]
    assert [path.name for path in tmp_path.iterdir()] == [key_of(facts())]


def spec(image: str = "digest") -> MachineSpec:
    none = Path("/none")
    return MachineSpec(
        "fr-0123456789ab", Resources(1, SIZE >> 20, 64), ImageFiles(image, none, none, none), "g:1", "c"
    )


class Templates:
    """Saves a little memory instead of a guest's; fails while `why` is set."""

    def __init__(self, directory: Path) -> None:
        self.made = 0
        self.cleared = 0
        self.why = ""
        self.on_make: Callable[[], Any] = lambda: None
        self.directory = directory

    def __call__(self, spec: MachineSpec, saved: Saved) -> None:
        if self.why:
            raise BootFailed(self.why)
        self.on_make()
        self.made += 1
        os.pwrite(saved.memory, b"memory", 0)
        os.pwrite(saved.devices, b"devices", 0)
        os.pwrite(saved.disk, b"disk", 0)

    def clear(self) -> None:
        self.cleared += 1

    def states(self) -> SavedStates:
        return SavedStates(self.directory, self, self.clear, lambda spec: facts(image=spec.image.digest))


def is_restored(states: SavedStates, wanted: MachineSpec) -> bool:
    with states.found(wanted) as saved:
        return saved is not None


def test_the_first_machine_boots_and_the_next_is_restored(tmp_path: Path) -> None:
    templates = Templates(tmp_path)
    states = templates.states()

    first = is_restored(states, spec())
    states.prepare(spec()).result()

    assert (first, is_restored(states, spec()), templates.made) == (False, True, 1)


def test_a_state_outlives_the_service(tmp_path: Path) -> None:
    templates = Templates(tmp_path)
    templates.states().prepare(spec()).result()

    later = templates.states()
    later.prepare(spec()).result()

    assert (is_restored(later, spec()), templates.made) == (True, 1)
    assert templates.cleared == 2  # a template of a killed service is removed also where none is made


def test_a_damaged_state_is_said_and_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    templates = Templates(tmp_path)
    templates.states().prepare(spec()).result()
    flip_memory(tmp_path / key_of(facts()))

    later = templates.states()
    later.prepare(spec()).result()

    assert (is_restored(later, spec()), templates.made) == (True, 2)
    assert "made anew: its memory is not what was written" in caplog.text


def test_a_distrusted_state_is_made_anew_but_not_for_ever(tmp_path: Path) -> None:
    templates = Templates(tmp_path)
    states = templates.states()
    for _ in range(MAX_FAILURES + 2):
        states.prepare(spec()).result()
        states.distrust(key_of(facts()), "its machine did not answer")
        assert not (tmp_path / key_of(facts())).exists()

    states.prepare(spec()).result()

    assert templates.made == MAX_FAILURES
    assert not is_restored(states, spec())


def test_an_image_that_cannot_be_saved_boots_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    templates = Templates(tmp_path)
    templates.why = "the guest did not come to where it is to be saved"
    states = templates.states()

    with caplog.at_level(logging.WARNING):
        states.prepare(spec()).result()

    assert not is_restored(states, spec())
    assert "boot cold: no state was saved: the guest did not come to where it is to be saved" in caplog.text
    assert StateFiles(tmp_path).keys() == []


def test_a_state_that_is_being_written_is_not_pruned(tmp_path: Path) -> None:
    templates = Templates(tmp_path)
    states = templates.states()
    half_made = tmp_path / ".half-made-x"
    templates.on_make = lambda: (half_made.mkdir(), states.prune([]))

    states.prepare(spec()).result()

    assert half_made.is_dir()
    states.prune([spec()])
    assert not half_made.exists()


def test_a_stop_does_not_wait_for_what_is_being_saved(tmp_path: Path) -> None:
    templates = Templates(tmp_path)
    states = templates.states()
    booting, interrupted = threading.Event(), threading.Event()

    def boot() -> None:
        booting.set()
        interrupted.wait()
        raise BootFailed("it was killed")

    templates.on_make = boot
    under_way = states.prepare(spec())
    waiting = states.prepare(spec("another"))
    booting.wait()

    states.close(interrupted.set)

    assert under_way.done()
    assert waiting.cancelled()
    assert StateFiles(tmp_path).keys() == []


def test_states_of_images_that_no_pool_has_are_removed(tmp_path: Path) -> None:
    templates = Templates(tmp_path)
    states = templates.states()
    for image in ("digest", "old"):
        states.prepare(spec(image)).result()

    gone = states.prune([spec()])

    assert gone == [key_of(facts(image="old"))]
    assert is_restored(states, spec())
    assert not is_restored(states, spec("old"))


@pytest.mark.parametrize(
    ("state", "silent"),
    [
        ({"phase": "running", "booted": True, "since": 0.0}, False),
        ({"phase": "ended", "booted": True, "since": 0.0}, False),
        ({"phase": "running", "since": 90.0}, False),
        ({"phase": "running", "since": 10.0}, True),
        ({"phase": "ended", "since": 99.0}, True),
    ],
)
def test_a_restored_guest_that_never_came_to_the_gate_is_told_by_its_state_file(
    state: Mapping[str, Any], silent: bool
) -> None:
    assert never_booted(state, now=100.0) is silent


def test_a_file_is_sealed_as_soon_as_a_dying_qemu_has_let_go_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = empty("memory", PIECE_BYTES)
    still = mmap.mmap(fd, PIECE_BYTES)
    monkeypatch.setattr("firerunner.machines.qemu.states.time.sleep", lambda _seconds: still.close())

    seal(fd)

    assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
    os.close(fd)


def test_a_file_that_somebody_keeps_to_write_is_not_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = empty("memory", PIECE_BYTES)
    monkeypatch.setattr("firerunner.machines.qemu.states.UNMAPPED_WITHIN_S", 0.0)

    with mmap.mmap(fd, PIECE_BYTES), pytest.raises(OSError, match="busy"):
        seal(fd)
    os.close(fd)


def test_a_sealed_file_still_lends_its_pages_to_private_copies() -> None:
    fd = empty("memory", PIECE_BYTES)
    seal(fd)

    again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)

    with pytest.raises(PermissionError):
        os.pwrite(again, b"x", 0)
