"""The stand-in runner speaks the runner protocol as gitlab-runner would, within its limits."""

from __future__ import annotations

from pathlib import Path

import pytest
from stand_in_given import OneJobGitLab, job, run_stand_in, zipped
from tests.certificates import authority

pytestmark = pytest.mark.anyio


async def test_a_job_that_succeeds(tmp_path: Path) -> None:
    gitlab = OneJobGitLab([job("echo hello; pwd", "echo second", after=("echo after $CI_JOB_STATUS",))])

    status = await run_stand_in(tmp_path, gitlab)

    assert status == 0
    assert [update["state"] for update in gitlab.updates] == ["running", "success"]
    lines = gitlab.log().splitlines()
    assert "stand-in" in lines[0]
    assert lines[2:] == [
        *("$ echo hello; pwd", "hello", f"{tmp_path}/builds/group/project", "$ echo second", "second"),
        *("$ echo after $CI_JOB_STATUS", "after success", "Job succeeded"),
    ]
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("script", ["seq 20000", "seq 400000", "printf 'a\\0b'"])
async def test_the_final_update_is_for_the_whole_trace(tmp_path: Path, script: str) -> None:
    gitlab = OneJobGitLab([job(script)])

    await run_stand_in(tmp_path, gitlab)

    assert gitlab.final["output"] == {"checksum": gitlab.checksum(), "bytesize": len(gitlab.trace)}
    assert "failure_reason" not in gitlab.final
    assert "exit_code" not in gitlab.final


async def test_the_ask_says_who_asks_and_what_it_can(tmp_path: Path) -> None:
    gitlab = OneJobGitLab([job("true")])

    await run_stand_in(tmp_path, gitlab)

    [ask] = gitlab.asks
    assert (ask["token"], ask["header"], ask["system_id"]) == ("credential", "credential", "r_0123456789ab")
    assert ask["info"]["features"]["cancel_gracefully"] is True
    assert "stand-in" in ask["info"]["version"]
    assert gitlab.updates[0]["info"] == ask["info"]


async def test_without_a_job_it_asks_again_until_its_time_is_over(tmp_path: Path) -> None:
    gitlab = OneJobGitLab()

    status = await run_stand_in(tmp_path, gitlab, wait_timeout_s=2)

    assert status == 0
    assert [ask["last_update"] for ask in gitlab.asks] == ["", "v1"]


async def test_an_answer_that_is_cut_off_is_no_job(tmp_path: Path) -> None:
    gitlab = OneJobGitLab([job("echo first"), job("echo second")], cut_jobs=1)

    await run_stand_in(tmp_path, gitlab, wait_timeout_s=20)

    assert len(gitlab.asks) == 2
    assert "second" in gitlab.log()


async def test_by_https_it_trusts_who_it_is_told_to_trust(tmp_path: Path) -> None:
    gitlab, private = OneJobGitLab([job("seq 20000")]), authority(tmp_path)

    await run_stand_in(tmp_path, gitlab, signed_by=private, trusted=private)

    assert gitlab.final["output"] == {"checksum": gitlab.checksum(), "bytesize": len(gitlab.trace)}


async def test_by_https_it_trusts_nobody_else(tmp_path: Path) -> None:
    gitlab = OneJobGitLab([job("true")])

    await run_stand_in(tmp_path, gitlab, signed_by=authority(tmp_path))

    assert gitlab.asks == []


async def test_a_script_that_fails_gives_its_exit_code(tmp_path: Path) -> None:
    gitlab = OneJobGitLab([job("exit 3", "echo never", after=("echo after $CI_JOB_STATUS",))])

    await run_stand_in(tmp_path, gitlab)

    assert gitlab.final["state"] == "failed"
    assert gitlab.final["failure_reason"] == "script_failure"
    assert gitlab.final["exit_code"] == 3
    assert "never" not in gitlab.log()
    assert gitlab.log().splitlines()[-2:] == ["after failed", "ERROR: Job failed: exit status 3"]


async def test_a_failing_command_in_the_middle_ends_the_script(tmp_path: Path) -> None:
    gitlab = OneJobGitLab([job("false | true", "echo never")])

    await run_stand_in(tmp_path, gitlab)

    assert gitlab.final["exit_code"] == 1
    assert "\nnever" not in gitlab.log()


async def test_variables_come_as_they_are_and_files_as_files(tmp_path: Path) -> None:
    odd = """a 'b' "c" $HOME `x` \\n\nsecond"""
    variables = [
        {"key": "ODD", "value": odd},
        {"key": "CONFIG", "value": "in a file\n", "file": True},
        {"key": "not-a-name", "value": "x"},
    ]
    gitlab = OneJobGitLab([job('printf "%s|" "$ODD"; cat "$CONFIG"', variables=variables)])

    await run_stand_in(tmp_path, gitlab)

    assert f"{odd}|in a file\n" in gitlab.log()


async def test_secrets_are_masked_whatever_they_are_made_of(tmp_path: Path) -> None:
    secrets = {"A": "s.*[x]^$\\/y", "B": "s.*[x]", "C": "first line\nsecond line"}
    variables = [{"key": key, "value": value, "masked": True} for key, value in secrets.items()]
    gitlab = OneJobGitLab([job('echo "<$A> <$B> <$C>"', f"echo token {gitlab_token()}", variables=variables)])

    await run_stand_in(tmp_path, gitlab)

    assert "<[MASKED]> <[MASKED]> <[MASKED]\n[MASKED]>" in gitlab.log()
    assert gitlab_token() not in gitlab.log()


def gitlab_token() -> str:
    return str(job()["token"])


async def test_a_cancel_ends_the_script_and_its_children_and_runs_after_script(tmp_path: Path) -> None:
    script = ("echo started", "trap 'echo caught' TERM; sleep 600 & sleep 600; echo never")
    gitlab = OneJobGitLab([job(*script, after=("echo after $CI_JOB_STATUS",))], canceling_at="started\n")

    await run_stand_in(tmp_path, gitlab)

    assert gitlab.final["state"] == "failed"
    assert gitlab.log().splitlines()[-2:] == ["after canceled", "ERROR: Job failed: canceled"]


async def test_a_job_that_is_gone_is_dropped_at_once(tmp_path: Path) -> None:
    gitlab = OneJobGitLab([job("echo started", "sleep 600", after=("echo after",))], aborted_at="started\n")

    status = await run_stand_in(tmp_path, gitlab)

    assert status == 0
    assert [update["state"] for update in gitlab.updates] == ["running"]
    assert "after" not in gitlab.log()


async def test_a_job_that_is_gone_before_it_starts_is_not_counted(tmp_path: Path) -> None:
    gitlab = OneJobGitLab([job("echo ran")], status="canceled")

    await run_stand_in(tmp_path, gitlab)

    assert gitlab.trace == b""
    assert len(gitlab.asks) > 1


async def test_a_job_that_takes_too_long_says_so(tmp_path: Path) -> None:
    slow = job("sleep 600", after=("echo after",), runner_info={"timeout": 1})
    gitlab = OneJobGitLab([slow])

    await run_stand_in(tmp_path, gitlab)

    assert gitlab.final["failure_reason"] == "job_execution_timeout"
    assert "after" in gitlab.log().splitlines()


async def test_a_trace_that_the_server_has_lost_is_sent_again(tmp_path: Path) -> None:
    gitlab = OneJobGitLab([job("echo one; sleep 1.5; echo two")], forget_trace_at=50)

    await run_stand_in(tmp_path, gitlab)

    assert gitlab.refused_patches == 1
    assert gitlab.final["output"]["checksum"] == gitlab.checksum()


async def test_the_final_update_is_repeated_while_the_server_stores_the_trace(tmp_path: Path) -> None:
    gitlab = OneJobGitLab([job("true")], finals_accepted=2)

    await run_stand_in(tmp_path, gitlab)

    assert [update["state"] for update in gitlab.updates] == ["running", "success", "success", "success"]


@pytest.mark.parametrize("redirected", [False, True])
async def test_artifacts_are_uploaded_also_through_a_redirect(tmp_path: Path, redirected: bool) -> None:
    artifacts = [
        {
            "name": "a b",
            "paths": ["out/**/*.txt", "none*", "one"],
            "exclude": ["*/skip.txt"],
            "expire_in": "1 day",
        },
        {"paths": ["out"], "when": "on_failure"},
    ]
    script = (
        "mkdir -p out/deep; echo 1 > one; echo 2 > out/deep/two.txt; echo 3 > out/skip.txt; echo 4 > out/x"
    )
    gitlab = OneJobGitLab([job(script, artifacts=artifacts)], redirect_uploads=redirected)

    await run_stand_in(tmp_path, gitlab)

    assert gitlab.uploaded() == {"one": b"1\n", "out/deep/two.txt": b"2\n"}
    assert gitlab.uploads[0][0] == "artifact_format=zip&artifact_type=archive&expire_in=1%20day"
    assert gitlab.final["state"] == "success"


async def test_artifacts_of_a_failed_job_are_those_meant_for_it(tmp_path: Path) -> None:
    artifacts = [{"paths": ["log"], "when": "on_failure"}, {"paths": ["result"]}]
    gitlab = OneJobGitLab([job("echo x > log; echo x > result; false", artifacts=artifacts)])

    await run_stand_in(tmp_path, gitlab)

    assert list(gitlab.uploaded()) == ["log"]


async def test_no_files_is_a_warning(tmp_path: Path) -> None:
    gitlab = OneJobGitLab([job("true", artifacts=[{"paths": ["nothing/"]}])])

    await run_stand_in(tmp_path, gitlab)

    assert "WARNING: no files to upload: nothing/" in gitlab.log()
    assert gitlab.final["state"] == "success"


async def test_artifacts_of_earlier_jobs_are_there(tmp_path: Path) -> None:
    dependencies = [
        {"id": 5, "name": "build", "token": "token-5", "artifacts_file": {"filename": "a.zip", "size": 1}},
        {"id": 6, "name": "no artifacts", "token": "token-6"},
    ]
    gitlab = OneJobGitLab([job("cat result", dependencies=dependencies)])
    gitlab.artifacts[5] = zipped(result="of the build\n")

    await run_stand_in(tmp_path, gitlab)

    assert "of the build" in gitlab.log()


async def test_missing_artifacts_of_an_earlier_job_fail_the_job(tmp_path: Path) -> None:
    dependency = {"id": 5, "name": "build", "token": "token-5", "artifacts_file": {"filename": "a.zip"}}
    gitlab = OneJobGitLab([job("echo ran", dependencies=[dependency])])

    await run_stand_in(tmp_path, gitlab)

    assert gitlab.final["failure_reason"] == "runner_system_failure"
    assert "build (5): the answer is 404" in gitlab.log()
    assert "ran" not in gitlab.log()


async def test_what_a_script_leaves_running_does_not_hold_the_job(tmp_path: Path) -> None:
    gitlab = OneJobGitLab([job("sleep 600 &")])

    await run_stand_in(tmp_path, gitlab)

    assert gitlab.final["state"] == "success"
