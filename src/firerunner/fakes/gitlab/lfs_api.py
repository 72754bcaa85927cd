"""Git LFS: the batch API with the basic transfer, behind the same access rules as git itself.

Source: git-lfs docs/api/batch.md; GitLab serves objects at `/<path>.git/gitlab-lfs/objects/<oid>`.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from firerunner.fakes.gitlab.git_http import refusal
from firerunner.fakes.gitlab.world import World

MEDIA_TYPE = "application/vnd.git-lfs+json"


def keep(world: World, content: bytes) -> str:
    """Write an object; returns its pointer file."""
    oid = hashlib.sha256(content).hexdigest()
    path = _path(world, oid)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"


def _path(world: World, oid: str) -> Path:
    return world.data_dir / "lfs" / oid


class LfsApi:
    """Downloads only: jobs do not push."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[Route]:
        """The routes, from the root."""
        return [
            Route("/{project:path}.git/info/lfs/objects/batch", self.batch, methods=["POST"]),
            Route("/{project:path}.git/gitlab-lfs/objects/{oid}", self.download, methods=["GET"]),
        ]

    async def batch(self, request: Request) -> Response:
        """Where each object is."""
        project = self._world.project(request.path_params["project"])
        asked = await request.json()
        refused = refusal(self._world, request, project, writing=asked.get("operation") != "download")
        if refused is not None or project is None:
            return refused or JSONResponse({"message": "Not found"}, 404, media_type=MEDIA_TYPE)
        place = f"{self._world.external_url}/{project.path}.git/gitlab-lfs/objects"
        objects = [self._object(place, each, request) for each in asked["objects"]]
        return JSONResponse({"transfer": "basic", "objects": objects}, media_type=MEDIA_TYPE)

    def _object(self, place: str, asked: dict[str, Any], request: Request) -> dict[str, Any]:
        known = {"oid": asked["oid"], "size": asked["size"]}
        if not _path(self._world, asked["oid"]).is_file():
            return known | {"error": {"code": 404, "message": "Object does not exist on the server"}}
        header = {"Authorization": request.headers.get("authorization", "")}
        return known | {
            "authenticated": True,
            "actions": {"download": {"href": f"{place}/{asked['oid']}", "header": header}},
        }

    async def download(self, request: Request) -> Response:
        """One object."""
        project = self._world.project(request.path_params["project"])
        refused = refusal(self._world, request, project, writing=False)
        if refused is not None:
            return refused
        path = _path(self._world, Path(request.path_params["oid"]).name)
        return FileResponse(path) if path.is_file() else Response(status_code=404)
