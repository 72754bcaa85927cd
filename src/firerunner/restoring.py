"""Keeps a saved state of each pool's image and size ready on the hosts that can restore machines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from firerunner.errors import FireRunnerError
from firerunner.hosting import HostDriver
from firerunner.images import Store
from firerunner.machines.qemu import QemuDriver
from firerunner.machines.spec import ImageFiles, Resources
from firerunner.settings import Settings

LOOK_EVERY_S = 30.0
"""How often names of images and settings are looked at. A new image's first machines boot meanwhile."""

log = logging.getLogger(__name__)

Wanted = list[tuple[ImageFiles, Resources]]


async def keep_states(
    settings: Callable[[], Settings], drivers: Mapping[str, HostDriver], images: Store
) -> None:
    """Run for ever: make what is missing, remove what no pool needs any more."""
    known: dict[str, Wanted] = {}
    while True:
        for host, driver in drivers.items():
            if not isinstance(driver, QemuDriver):
                continue
            try:
                wanted = await asyncio.to_thread(wanted_on, host, settings(), images)
                if wanted == known.get(host):
                    continue
                await driver.prune_states(wanted)
                for image, resources in wanted:
                    await driver.save_state(image, resources)
                known[host] = wanted
            except FireRunnerError as error:
                log.warning("no saved states on host %s: %s", host, error)
        await asyncio.sleep(LOOK_EVERY_S)


def wanted_on(host: str, settings: Settings, images: Store) -> Wanted:
    """Image and size of all machines that are to be restored on this host. Raises ImageError."""
    wanted: Wanted = []
    for pool in settings.pools:
        if pool.start != "restored" or host not in {each.name for each in settings.hosts_of(pool)}:
            continue
        image = images.resolve(pool.image)
        machine = (image.files, pool.resources)
        if pool.sized is None and not image.manifest.cloud_init and machine not in wanted:
            wanted.append(machine)
    return wanted
