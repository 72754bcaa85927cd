"""Which machines start from a saved state, and the making of states in the background.

No machine ever waits for a state: one that cannot be restored boots. A state is made when it is first
wanted, and made anew when it was found doubtful; one at a time, so that it does not crowd out jobs.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from firerunner.errors import MachineError
from firerunner.machines.qemu.order import Saved
from firerunner.machines.qemu.statekey import key_of
from firerunner.machines.qemu.states import Doubtful, State, StateFiles, empty
from firerunner.machines.spec import MachineSpec

log = logging.getLogger(__name__)

Facts = Mapping[str, str]

Clear = Callable[[], None]
"""Removes what a killed service has left of a template. Raises MachineError."""

Make = Callable[[MachineSpec, Saved], None]
"""Boots a template into the three files, and returns when it is saved and has ended. Raises MachineError."""

Interrupt = Callable[[], None]
"""Ends the template that is being booted, if there is one; its `Make` raises then."""

INTERRUPT_EVERY_S = 0.05
MAX_FAILURES = 3
"""After so many in a row no more tries for this state, until the service starts again."""


class SavedStates:
    """The states that this process has read or made. May be called from several threads."""

    def __init__(
        self, directory: Path, make: Make, clear: Clear, facts: Callable[[MachineSpec], Facts]
    ) -> None:
        """`facts`: what a state for such a machine is made with here."""
        self._files = StateFiles(directory)
        self._make = make
        self._clear = clear
        self._facts = facts
        self._lock = threading.Lock()
        self._held: dict[str, State] = {}
        self._images: dict[str, str] = {}
        self._under_way: dict[str, Future[None]] = {}
        self._failures: dict[str, int] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="qemu-states")
        self._closed = False

    @contextlib.contextmanager
    def found(self, spec: MachineSpec) -> Iterator[Saved | None]:
        """For as long as the block lasts, the descriptors to restore this machine from. None while there is
        no good state, which is then looked for, or made, in the background."""
        key = key_of(self._facts(spec))
        with self._lock:
            state = self._held.get(key)
            mine = None if state is None else state.copy()  # it may be given up meanwhile
        if mine is None:
            self.prepare(spec)
            yield None
            return
        try:
            yield Saved(mine.memory, mine.devices, mine.disk, restore=True, key=key)
        finally:
            mine.close()

    def prepare(self, spec: MachineSpec) -> Future[None]:
        """Have a state for such machines, soon; done when it is there or could not be made."""
        facts = self._facts(spec)
        key = key_of(facts)
        with self._lock:
            known = self._under_way.get(key)
            over = self._closed or self._failures.get(key, 0) >= MAX_FAILURES
            if over or key in self._held or (known is not None and not known.done()):
                return known or _nothing_to_do()
            future = self._under_way[key] = self._thread.submit(self._provide, spec, facts)
        return future

    def distrust(self, key: str, why: str) -> None:
        """Use this state no more: it is made anew when it is wanted the next time, but not for ever."""
        with self._lock:
            known = self._held.pop(key, None)
        if known is not None:
            known.close()
            with self._lock:
                self._failures[key] = self._failures.get(key, 0) + 1
            self._files.remove(key)
            log.warning("saved state %s is not used any more, and made anew: %s", key, why)

    def prune(self, wanted: list[MachineSpec]) -> list[str]:
        """Remove what none of these machines would be restored from, and no other of their images that was
        restored meanwhile; returns the keys."""
        keys = {key_of(self._facts(spec)) for spec in wanted}
        images = {spec.image.digest for spec in wanted}
        with self._lock:
            keys |= {key for key in self._held if self._images[key] in images}
            for key in self._held.keys() - keys:
                self._held.pop(key).close()
        with self._alone() as alone:
            return self._files.prune(keys, half_made=alone)

    def mib(self) -> int:
        """What the states take on the disk."""
        return self._files.mib()

    def close(self, interrupt: Interrupt) -> None:
        """Give up what waits and what is being made, and give the memory back."""
        with self._lock:
            self._closed = True
            left = list(self._under_way.values())
        self._thread.shutdown(wait=False, cancel_futures=True)
        while not all(future.done() for future in left):
            interrupt()
            time.sleep(INTERRUPT_EVERY_S)
        self._thread.shutdown(wait=True)
        for state in self._held.values():
            state.close()
        self._held.clear()

    def _provide(self, spec: MachineSpec, facts: Facts) -> None:
        """Read the state from the disk, or make it. In the one thread for that."""
        key = key_of(facts)
        try:
            with self._alone() as alone:
                state = None
                if alone:
                    self._clear()
                    state = self._read(facts) or self._made(spec, facts)
        except (MachineError, OSError) as error:
            with self._lock:
                self._failures[key] = self._failures.get(key, 0) + 1
            if not self._closed:
                log.warning(
                    "machines of image %s boot cold: no state was saved: %s", spec.image.digest, error
                )
            return
        if state is not None:
            with self._lock:
                self._held[key] = state
                self._images[key] = spec.image.digest

    def _read(self, facts: Facts) -> State | None:
        try:
            return self._files.read(facts)
        except Doubtful as error:
            log.warning("saved state %s is not used, and made anew: %s", key_of(facts), error)
            return None

    def _made(self, spec: MachineSpec, facts: Facts) -> State:
        if self._closed:
            raise MachineError("the service stops")
        state = State(empty("memory", spec.resources.memory_mib << 20), empty("devices"), empty("disk"))
        os.fchmod(state.memory, 0o666)  # the template's QEMU opens it as another user; no path leads there
        saved = Saved(state.memory, state.devices, state.disk, restore=False, key=key_of(facts))
        try:
            self._make(spec, saved)
            state.seal()
            self._files.write(facts, state)
        except BaseException:
            state.close()
            raise
        log.info("saved a state of image %s: %s MiB of states on disk", spec.image.digest, self.mib())
        return state

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """False if another process of this state directory is making one; it is looked for again later."""
        directory = self._files.directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(lock)


def _nothing_to_do() -> Future[None]:
    done: Future[None] = Future()
    done.set_result(None)
    return done
