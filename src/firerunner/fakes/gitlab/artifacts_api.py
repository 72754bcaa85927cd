"""Artifacts of jobs: up by the job's own token, down by the token of a running job, or by way of a redirect.

Follows Rails `lib/api/ci/runner.rb` and `app/services/ci/job_artifacts/create_service.rb`.
The "object storage" that redirects point at is the fake itself, at an unguessable path that needs no token.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from firerunner.fakes.gitlab import multipart
from firerunner.fakes.gitlab.answers import message, parameter_error, plain
from firerunner.fakes.gitlab.model import Artifact, Job
from firerunner.fakes.gitlab.runner_api import RunnerApi
from firerunner.fakes.gitlab.world import World

ARTIFACT_TYPES = frozenset(
    {"archive", "metadata", "trace", "junit", "dotenv", "cobertura", "codequality", "terraform", "metrics"}
)
ARTIFACT_FORMATS = frozenset({"raw", "zip", "gzip"})
STORAGE = "/-/storage"


class ArtifactsApi:
    """The artifact endpoints of the runner API, and the storage that redirects lead to."""

    def __init__(self, world: World, runner_api: RunnerApi) -> None:
        self._world = world
        self._runner_api = runner_api
        self._folder = world.data_dir / "artifacts"
        self._keys: dict[str, Artifact] = {}

    def routes(self) -> list[Route]:
        """The routes below `/api/v4`."""
        return [
            Route("/jobs/{job_id:int}/artifacts", self.upload, methods=["POST"]),
            Route("/jobs/{job_id:int}/artifacts", self.download, methods=["GET"]),
        ]

    def storage_routes(self) -> list[Route]:
        """The routes of the object storage, from the root."""
        return [Route(f"{STORAGE}/{{key}}", self.from_storage, methods=["GET"])]

    async def upload(self, request: Request) -> Response:
        """201; the token is checked before the body is read, as Workhorse does."""
        behaviour = self._world.behaviour
        if not behaviour.artifacts_enabled:
            return message(405)
        job = self._runner_api.job_of(request)
        if behaviour.redirect_uploads and "redirected" not in request.query_params:
            self._world.redirected_uploads += 1
            query = _with_mark(request)
            location = f"{self._world.external_url}/api/v4/jobs/{job.id}/artifacts?{query}"
            return Response(status_code=307, headers={"Location": location})
        self._folder.mkdir(parents=True, exist_ok=True)
        target = self._folder / secrets.token_hex(16)
        try:
            form = await multipart.receive(
                request.stream(),
                request.headers.get("content-type", ""),
                target,
                behaviour.artifact_limit_bytes,
            )
            return self._keep(request, job, form, target)
        except multipart.TooLarge:
            return message(413)
        except multipart.BadForm:
            return message(400)
        finally:
            if not any(artifact.path == target for artifact in job.artifacts.values()):
                target.unlink(missing_ok=True)

    async def download(self, request: Request) -> Response:
        """200 with the archive, or a 302; 401 for a token of no running job, 403 for another project's."""
        token = request.query_params.get("token") or request.headers.get("job-token") or ""
        asking = self._world.running_job_by_token(token)
        if asking is None:
            return message(401)
        job = self._world.jobs.get(request.path_params["job_id"])
        if job is None or job.project is not asking.project:
            return message(403)
        artifact = job.artifacts.get("archive")
        if artifact is None:
            return message(404)
        if self._world.behaviour.redirect_downloads and request.query_params.get("direct_download") == "true":
            self._world.redirected_downloads += 1
            key = secrets.token_urlsafe(24)
            self._keys[key] = artifact
            return RedirectResponse(f"{self._world.external_url}{STORAGE}/{key}", 302)
        return file_answer(artifact)

    async def from_storage(self, request: Request) -> Response:
        """The file behind a redirect, in ranges if asked."""
        artifact = self._keys.get(request.path_params["key"])
        return (
            file_answer(artifact) if artifact else Response("<Error><Code>AccessDenied</Code></Error>", 403)
        )

    def _keep(self, request: Request, job: Job, form: multipart.Form, target: Path) -> Response:
        if form.filename is None:
            return parameter_error("file is missing")
        parameters = {**form.fields, **request.query_params}
        kind = parameters.get("artifact_type", "archive")
        form_of = parameters.get("artifact_format", "zip")
        if kind not in ARTIFACT_TYPES:
            return parameter_error("artifact_type does not have a valid value")
        if form_of not in ARTIFACT_FORMATS:
            return parameter_error("artifact_format does not have a valid value")
        self._runner_api.job_of(request)
        existing = job.artifacts.get(kind)
        if existing is not None:
            if _digest(existing.path) == _digest(target):
                return plain(201)
            return JSONResponse({"message": "another artifact of the same type already exists"}, 400)
        job.artifacts[kind] = Artifact(
            kind, form_of, form.filename, target, form.size, parameters.get("expire_in")
        )
        self._world.changes.ring()
        return plain(201)


def file_answer(artifact: Artifact) -> Response:
    """The file, streamed."""
    return FileResponse(artifact.path, media_type="application/octet-stream", filename=artifact.filename)


def _with_mark(request: Request) -> str:
    query = request.url.query
    return f"{query}&redirected=1" if query else "redirected=1"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
