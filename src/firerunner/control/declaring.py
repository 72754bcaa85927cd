"""What the plan is told of pools: as they are declared, with the images that there are."""

from __future__ import annotations

from firerunner.control.context import Context
from firerunner.control.fitting import fitting_hosts
from firerunner.control.pools import runner_mark
from firerunner.control.warming import warm_rule
from firerunner.errors import ImageError
from firerunner.images import Image, Manifest
from firerunner.planning import PoolFacts
from firerunner.settings import PoolSettings


class Declaring:
    """Knows each pool's image, or why it cannot be used."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.images: dict[str, Image] = {}
        self.faults: dict[str, str] = {}
        """Why the image of a pool cannot be used, by the pool's name."""

    def look_at_images(self) -> None:
        """See which images may be used now; a fault is logged when it is new."""
        for pool in self._ctx.pools.declared():
            try:
                self.images[pool.name] = self._ctx.resolve_image(pool.image)
                self.faults.pop(pool.name, None)
            except ImageError as error:
                if self.faults.get(pool.name) != str(error):
                    self._ctx.log.error("image not usable", pool=pool.name, error=str(error))
                self.faults[pool.name] = str(error)

    def facts(self, pool: PoolSettings, stopping: str | None) -> PoolFacts:
        """As the plan is told. `stopping`: how the controller stops, if it does."""
        image = self.images.get(pool.name)
        manifest = image.manifest if image is not None else None
        paused = None
        if stopping is not None:
            paused = f"stopping ({stopping})"
        elif not self._ctx.pools.is_declared(pool.name):
            paused = "it is withdrawn from the configuration"
        elif pool.name in self.faults:
            paused = self.faults[pool.name]
        elif manifest is None or manifest.info_for(pool.executor) is None:
            paused = _not_ready(pool, manifest)
        fitting = fitting_hosts(self._ctx, pool, image)
        paused = paused or fitting.why_none
        return PoolFacts(
            name=pool.name,
            resources=pool.resources,
            hosts=fitting.hosts,
            limit=pool.limit,
            warm=0 if stopping or not self._ctx.pools.is_declared(pool.name) else warm_rule(pool.warm),
            warm_age_s=pool.warm.max_age,
            image=manifest.digest if manifest is not None else "",
            baked=self._ctx.baked(pool),
            runner=runner_mark(pool),
            check_interval_s=pool.check_interval,
            packed=pool.placement == "pack",
            image_ready=pool.name not in self.faults,
            paused_reason=paused,
        )


def _not_ready(pool: PoolSettings, manifest: Manifest | None) -> str:
    if manifest is not None and pool.executor == "docker" and not manifest.docker:
        return f"image {pool.image} has no Docker engine: build it with --with-docker"
    return f"image {pool.image} has no recorded runner info: build it again"
