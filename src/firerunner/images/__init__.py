"""Images: what machines boot from. Built from a recipe, kept in a store, named by digest."""

from firerunner.images.build import build_image, stored_image
from firerunner.images.manifest import ImageFile, Manifest, RunnerFacts, RunnerKind
from firerunner.images.progress import Progress
from firerunner.images.recipe import Recipe, RunnerSource
from firerunner.images.recording import record_info
from firerunner.images.runner_binary import RunnerWish, find_runner, given_runner, stand_in_runner
from firerunner.images.store import Image, Store
from firerunner.images.tools import Tool, missing_tools

__all__ = [
    "Image",
    "ImageFile",
    "Manifest",
    "Progress",
    "Recipe",
    "RunnerFacts",
    "RunnerKind",
    "RunnerSource",
    "RunnerWish",
    "Store",
    "Tool",
    "build_image",
    "find_runner",
    "given_runner",
    "missing_tools",
    "record_info",
    "stand_in_runner",
    "stored_image",
]
