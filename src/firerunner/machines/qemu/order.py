"""What the driver orders from a keeper: everything about one machine, decided beforehand.

It goes to the keeper over its channel as JSON and is written down nowhere, since it holds the
machine's credential.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Fd:
    """The file descriptors that QEMU is given, by number.

    QEMU opens no path of its own for the machine's files: they are opened before the privileges are
    dropped, so the state directory may be closed to the user that QEMU runs as.
    """

    TAP = 3
    QMP = 4
    KERNEL = 5
    INITRAMFS = 6
    BOOT = 7
    ROOT = 8
    DISK = 9
    MEMORY = 10
    """The guest's memory, of a machine that is saved or restored."""


class Saved(NamedTuple):
    """The parts of a saved state: descriptors; the keeper is passed its own of memory and devices."""

    memory: int
    """The guest's memory, as a file in memory; sealed against writing where a machine is restored of it."""
    devices: int
    """QEMU's migration stream of all else (docs/devel/migration.rst of QEMU)."""
    disk: int
    """What stood on the disk then; each machine gets a disk of its own with that on it."""
    restore: bool
    """False: the machine is booted to be saved, and ends then."""
    key: str
    """Names the state (`statekey`)."""


class Listener(NamedTuple):
    """Where the guest may connect, and where that leads to on the host's side."""

    address: str
    port: int
    to_host: str
    to_port: int


class Uplink(NamedTuple):
    """What the guest may reach besides the listeners, and by which rules."""

    nft: str
    """The program that puts `ruleset` in force."""
    ruleset: str
    """Hands the connections that are allowed to the keeper; all others find nobody."""
    domains: list[tuple[str, int | None]]
    """Names below these are resolved on the host's side: parent, and port or None for all."""
    resolves: bool
    """Whether all other names are asked of the host's name servers."""


class Identity(NamedTuple):
    """The numeric user, group and supplementary groups that QEMU runs as."""

    uid: int
    gid: int
    groups: list[int]


class Order(NamedTuple):
    """One machine for one keeper."""

    machine_id: str
    directory: str
    argv: list[str]
    """QEMU's command line; it refers to files by the numbers in `Fd`."""
    kernel: str
    initramfs: str
    root: str
    disk: str
    boot: str
    """Content of the fw_cfg file: machine id, gate address, credential."""
    woken_by: str
    """What is written to the console of a restored guest: that it can go on, and as whom."""
    host_address: str
    guest_address: str
    listeners: list[Listener]
    names: dict[str, str]
    """Address by name, for the guest's DNS queries."""
    uplink: Uplink | None
    """None: the listeners are all there is."""
    identity: Identity | None
    """None: QEMU runs as the user who runs the controller."""
    cgroup_procs: list[str]
    """Files that the keeper writes its process id to before it starts QEMU."""
    memory_limit_mib: int | None
    max_lifetime_s: float
    saved: Saved | None
    """None: an ordinary, cold boot."""
    facts: dict[str, Any]
    """Passed on into the state file as it is."""


def to_json(order: Order) -> str:
    """The order as it goes to the keeper."""
    return json.dumps(order._asdict())


def from_json(text: str) -> Order:
    """The order as the keeper reads it; written by `to_json`, so trusted."""
    fields = json.loads(text)
    fields["listeners"] = [Listener(*each) for each in fields["listeners"]]
    if fields["uplink"] is not None:
        uplink = Uplink(*fields["uplink"])
        fields["uplink"] = uplink._replace(domains=[(parent, port) for parent, port in uplink.domains])
    if fields["identity"] is not None:
        fields["identity"] = Identity(*fields["identity"])
    if fields["saved"] is not None:
        fields["saved"] = Saved(*fields["saved"])
    return Order(**fields)
