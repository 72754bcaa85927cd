"""Reading GitLab's answer, and salvaging a broken one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firerunner.errors import BadAnswer
from firerunner.gitlab import parse_answer, salvage

FULL = {
    "id": 91,
    "token": "canary-token",
    "allow_git_fetch": True,
    "job_info": {"name": "unit", "stage": "test", "project_id": 7, "project_name": "App", "new": 1},
    "git_info": {"repo_url": "https://gitlab-ci-token:canary@gitlab.test/g/a.git", "ref": "main"},
    "runner_info": {"timeout": 3600, "runner_session_url": None},
    "variables": [
        {"key": "CI_PROJECT_PATH", "value": "grp/app", "public": True},
        {"key": "SECRET", "value": "canary-secret", "masked": True},
        {"key": "SECRET", "value": "canary-later"},
    ],
    "dependencies": [{"id": 90, "token": "canary-dep", "name": "build", "artifacts_file": None}],
    "features": {"failure_reasons": ["script_failure"]},
}


def raw(**changes: Any) -> bytes:
    return json.dumps({**FULL, **changes}).encode()


def test_what_we_act_on_is_read() -> None:
    answer = parse_answer(raw())

    assert (answer.id, answer.token, answer.runner_info.timeout) == (91, "canary-token", 3600)
    assert (answer.job_info.name, answer.job_info.project_id) == ("unit", 7)
    assert answer.project_path == "grp/app"
    assert answer.variable("SECRET") == "canary-later"
    assert answer.variable("NONE") is None
    assert [(one.id, one.token) for one in answer.dependencies] == [(90, "canary-dep")]


def test_newer_gitlab_names_the_project_itself() -> None:
    answer = parse_answer(raw(job_info={"project_full_path": "grp/sub/app", "project_id": 7}))

    assert answer.project_path == "grp/sub/app"


def test_null_and_absent_stand_for_nothing() -> None:
    answer = parse_answer(b'{"id":1,"token":"t","dependencies":null,"runner_info":null,"features":null}')

    assert (answer.dependencies, answer.runner_info.timeout, answer.project_path) == ((), None, "")


def test_secrets_do_not_show_in_what_is_printed() -> None:
    shown = repr(parse_answer(raw()))

    assert "canary" not in shown.replace("canary-x", "")


@pytest.mark.parametrize(
    ("broken", "where"),
    [
        (b"<html>canary</html>", "not JSON"),
        (b"\xff\xfe\x00", "not text"),
        (b"[" * 100_000, "cannot be read"),
        (b'{"id":' + b"9" * 5000 + b"}", "cannot be read"),
        (b'["canary"]', "JSON list"),
        (b"null", "JSON NoneType"),
        (raw(id="canary"), "id ("),
        (raw(id=True), "id ("),
        (raw(id=-1), "id ("),
        (raw(token=""), "token ("),
        (raw(token={"canary": 1}), "token ("),
        (raw(runner_info={"timeout": "canary"}), "runner_info.timeout ("),
        (raw(dependencies=[{"id": 90}]), "dependencies.0.token ("),
        (raw(dependencies="canary"), "dependencies ("),
        (raw(variables=[{"value": "canary"}]), "variables.0.key ("),
        (raw(job_info=[], git_info=[], runner_info=[], features=[]), "and 1 more"),
        (raw()[:200], "not JSON"),
    ],
)
def test_what_is_wrong_is_named_by_its_place_and_never_by_its_value(broken: bytes, where: str) -> None:
    with pytest.raises(BadAnswer) as caught:
        parse_answer(broken)

    assert where in str(caught.value)
    assert "canary" not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("broken", "saved"),
    [
        (raw(runner_info="wrong"), (91, "canary-token")),
        (raw(dependencies=7), (91, "canary-token")),
        (raw(id="91"), (91, "canary-token")),
        (raw()[:40], (91, "canary-token")),
        (b'\n {"id": 5 , "x":[1,2], "token" : "t"', (5, "t")),
        (b'{"token":"t","id":5}', (5, "t")),
        (b'{"token":"t","id":5', None),
        (b'{"id":5,"tok', None),
        (b'{"dependencies":[{"id":90,"token":"d"}],"id":91,"tok', None),
        (b'{"dependencies":[{"id":90,"token":"d', None),
        (b'{"id":5,"token":""}', None),
        (b'{"id":0,"token":"t"}', None),
        (b'{"id":true,"token":"t"}', None),
        (b'{"id":5,"token":null}', None),
        (b'{"id":5.5,"token":"t"}', None),
        (b"<html>", None),
        (b"", None),
        (b'{"x":' + b"[" * 100_000, None),
    ],
)
def test_id_and_token_are_salvaged_only_where_they_are_sure(
    broken: bytes, saved: tuple[int, str] | None
) -> None:
    assert salvage(broken) == saved


@given(cut=st.integers(min_value=0, max_value=len(raw())))
def test_a_cut_answer_gives_the_true_id_and_token_or_nothing(cut: int) -> None:
    assert salvage(raw()[:cut]) in {None, (91, "canary-token")}


@given(st.binary(max_size=200))
def test_any_bytes_are_either_an_answer_or_a_bad_one(noise: bytes) -> None:
    salvage(noise)
    with pytest.raises(BadAnswer):
        parse_answer(noise)
