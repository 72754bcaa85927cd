"""Artifacts up and down: tokens, limits, redirects, cut uploads."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_gitlab_wire import Wire
from hypothesis import given
from hypothesis import strategies as st

from firerunner.fakes.gitlab import FakeGitLab, multipart

pytestmark = pytest.mark.anyio

Payload = dict[str, Any]
TWO_STAGES = """
stages: [one, two]
make: {stage: one, script: [x], artifacts: {paths: [out]}}
use: {stage: two, script: [x], dependencies: [make]}
"""
CONTENT = b"PK\x03\x04" + bytes(range(256)) * 700 + b"\r\n--almost a boundary\r\n"


async def upload(wire: Wire, job: Payload, content: bytes = CONTENT, **query: str) -> httpx.Response:
    return await wire.client.post(
        f"/jobs/{job['id']}/artifacts",
        params=query,
        files={"file": ("artifacts.zip", content)},
        headers={"JOB-TOKEN": job["token"]},
    )


async def download(wire: Wire, job_id: int, token: str, **query: str) -> httpx.Response:
    return await wire.client.get(f"/jobs/{job_id}/artifacts", params=query, headers={"JOB-TOKEN": token})


@pytest.fixture
async def dependent(gitlab: FakeGitLab, wire: Wire) -> Payload:
    """The payload of `use`, after `make` has uploaded its archive and ended."""
    project = await gitlab.add_project("group/two", {".gitlab-ci.yml": TWO_STAGES})
    await gitlab.run_pipeline(project)
    token = gitlab.add_runner()
    make = (await wire.ask(token)).json()
    await upload(wire, make)
    await wire.put(make, "success")
    payload: Payload = (await wire.ask(token)).json()
    return payload


async def test_an_upload_is_kept_to_the_byte(gitlab: FakeGitLab, wire: Wire, job: Payload) -> None:
    answer = await upload(wire, job, expire_in="1 day", artifact_format="zip", artifact_type="archive")
    record = gitlab.job("only")
    assert (answer.status_code, answer.text) == (201, "201")
    assert gitlab.artifact(record) == CONTENT
    assert (record.artifacts["archive"].filename, record.artifacts["archive"].expire_in) == (
        "artifacts.zip",
        "1 day",
    )


async def test_uploads_that_are_refused(gitlab: FakeGitLab, wire: Wire, job: Payload) -> None:
    wrong = await upload(wire, {**job, "token": "glcbt-x"})
    kind = await upload(wire, job, artifact_type="nonsense")
    no_file = await wire.client.post(
        f"/jobs/{job['id']}/artifacts", files={"other": b"x"}, headers={"JOB-TOKEN": job["token"]}
    )
    no_form = await wire.client.post(
        f"/jobs/{job['id']}/artifacts", content=b"x", headers={"JOB-TOKEN": job["token"]}
    )
    gitlab.behaviour.artifact_limit_bytes = 10
    large = await upload(wire, job)
    gitlab.behaviour.artifacts_enabled = False
    off = await upload(wire, job)
    codes = [answer.status_code for answer in (wrong, kind, no_file, no_form, large, off)]
    assert codes == [403, 400, 400, 400, 413, 405]
    assert gitlab.job("only").artifacts == {}
    assert list((gitlab.world.data_dir / "artifacts").iterdir()) == []


async def test_the_same_archive_may_come_twice_but_not_another(wire: Wire, job: Payload) -> None:
    codes = [(await upload(wire, job, content)).status_code for content in (b"a", b"a", b"b")]
    assert codes == [201, 201, 400]


async def test_an_upload_that_breaks_off_leaves_nothing(gitlab: FakeGitLab, wire: Wire, job: Payload) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.zip"\r\n\r\nhalf of it'
        raise ConnectionResetError

    headers = {"JOB-TOKEN": job["token"], "Content-Type": "multipart/form-data; boundary=B"}
    with pytest.raises(ConnectionResetError):
        await wire.client.post(f"/jobs/{job['id']}/artifacts", content=half(), headers=headers)
    folder = gitlab.world.data_dir / "artifacts"
    await gitlab.wait_for(lambda: gitlab.calls("POST", ".*/artifacts")[-1].ended)
    assert gitlab.job("only").artifacts == {}
    assert list(folder.iterdir()) == []


async def test_a_dependency_is_downloaded_with_the_running_jobs_own_token(
    wire: Wire, dependent: Payload
) -> None:
    (entry,) = dependent["dependencies"]
    answer = await download(wire, entry["id"], entry["token"])
    assert entry["token"] == dependent["token"]
    assert entry["artifacts_file"] == {"filename": "artifacts.zip", "size": len(CONTENT)}
    assert (answer.status_code, answer.content) == (200, CONTENT)


async def test_downloads_that_are_refused(gitlab: FakeGitLab, wire: Wire, dependent: Payload) -> None:
    make = gitlab.job("make")
    ended_token = await download(wire, make.id, make.token)
    unknown_job = await download(wire, 99, dependent["token"])
    without = await download(wire, dependent["id"], dependent["token"])
    assert [ended_token.status_code, unknown_job.status_code, without.status_code] == [401, 403, 404]


async def test_a_download_may_be_redirected_to_storage_without_a_token(
    gitlab: FakeGitLab, wire: Wire, dependent: Payload
) -> None:
    gitlab.behaviour.redirect_downloads = True
    make = gitlab.job("make").id
    direct = await download(wire, make, dependent["token"], direct_download="true")
    proxied = await download(wire, make, dependent["token"])
    stored = await wire.client.get(direct.headers["Location"], headers={"Range": "bytes=0-3"})
    wrong = await wire.client.get(f"{gitlab.url}/-/storage/guess")
    assert (direct.status_code, proxied.status_code, wrong.status_code) == (302, 200, 403)
    assert (stored.status_code, stored.content) == (206, CONTENT[:4])


async def test_an_upload_may_be_redirected(gitlab: FakeGitLab, wire: Wire, job: Payload) -> None:
    gitlab.behaviour.redirect_uploads = True
    answer = await upload(wire, job, artifact_type="archive")
    location = answer.headers["Location"]
    again = await wire.client.post(
        location, files={"file": ("artifacts.zip", CONTENT)}, headers={"JOB-TOKEN": job["token"]}
    )
    assert answer.status_code == 307
    assert location.startswith(f"{gitlab.url}/api/v4/jobs/{job['id']}/artifacts?artifact_type=archive")
    assert (again.status_code, gitlab.artifact(gitlab.job("only"))) == (201, CONTENT)


@given(content=st.binary(max_size=300), cuts=st.lists(st.integers(0, 600), max_size=8))
async def test_however_a_form_is_cut_into_chunks_its_file_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, cuts: list[int]
) -> None:
    body = (
        b'--B\r\nContent-Disposition: form-data; name="note"\r\n\r\nhi\r\n'
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        + content
        + b"\r\n--B--\r\n"
    )
    edges = sorted({0, len(body), *(cut for cut in cuts if cut < len(body))})

    async def chunks() -> AsyncIterator[bytes]:
        for start, end in itertools.pairwise(edges):
            yield body[start:end]

    target = tmp_path_factory.getbasetemp() / "form"
    form = await multipart.receive(chunks(), "multipart/form-data; boundary=B", target, 1000)
    assert (target.read_bytes(), form.fields, form.size) == (content, {"note": "hi"}, len(content))


async def test_a_form_without_its_end_is_refused(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx'

    with pytest.raises(multipart.BadForm):
        await multipart.receive(chunks(), "multipart/form-data; boundary=B", tmp_path / "form", 1000)
