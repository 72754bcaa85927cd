"""An image that is only a manifest, for machines that do not boot from it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from firerunner.images import Image, Manifest, RunnerFacts, RunnerKind
from firerunner.machines.spec import ImageFiles

INFO = {
    "name": "gitlab-runner",
    "version": "19.4.0",
    "executor": "shell",
    "features": {"cancelable": True, "cancel_gracefully": True, "trace_size": True, "refspecs": True},
}


def paper_image() -> Image:
    """Its files are nowhere."""
    manifest = Manifest(
        name="demo",
        kernel_version="6.1",
        files={},
        runner=RunnerFacts(kind=RunnerKind.STAND_IN, version="1", sha256="0" * 64),
        production=False,
        info=INFO,
        recipe_digest="0" * 64,
        root_digest="0" * 64,
        built_at=datetime(2026, 1, 1, tzinfo=UTC),
    ).sealed()
    nowhere = Path("/nonexistent")
    return Image(manifest, ImageFiles(manifest.digest, nowhere, nowhere, nowhere))
