"""What `doctor` finds in a configuration: images, tokens, a GitLab that is not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from firerunner.cli.main import app
from firerunner.doctor import examine_settings
from firerunner.fakes.gitlab import FakeGitLab
from firerunner.findings import Level
from firerunner.machines.spec import Internet
from firerunner.settings import Settings, load_settings

pytestmark = pytest.mark.anyio


def configured(directory: Path, gitlab_url: str, tokens: dict[str, str]) -> Settings:
    path = directory / "config.yaml"
    pools = [{"name": name, "runner_token": token, "image": "demo"} for name, token in tokens.items()]
    path.write_text(
        yaml.safe_dump({"gitlab": {"url": gitlab_url}, "state_dir": str(directory / "state"), "pools": pools})
    )
    return load_settings(path)


async def test_tokens_and_images_are_judged_pool_by_pool(tmp_path: Path) -> None:
    async with FakeGitLab(tmp_path / "gitlab") as gitlab:
        good, revoked = gitlab.add_runner(["a"]), gitlab.add_runner(["b"])
        gitlab.delete_runner(revoked)

        findings = await examine_settings(configured(tmp_path, gitlab.url, {"a": good, "b": revoked}))

        assert gitlab.managers() == []
    said = {(finding.subject, finding.level): finding for finding in findings}
    assert said["pool a", Level.OK].what == "GitLab takes the runner token"
    refused = [finding for finding in findings if "refuses the runner token" in finding.what]
    assert [(finding.subject, finding.level) for finding in refused] == [("pool b", Level.FAIL)]
    missing = [finding for finding in findings if "no image 'demo'" in finding.what]
    assert {finding.subject for finding in missing} == {"pool a", "pool b"}
    assert all("firerunner image build" in finding.remedy for finding in missing)


async def test_a_machine_larger_than_its_host_is_seen_before_a_job_waits_for_it(tmp_path: Path) -> None:
    settings = configured(tmp_path, "http://127.0.0.1:9", {"a": "glrt-x", "b": "glrt-y"})
    fits = settings.pools[0].model_copy(update={"vcpu": 1, "memory_mib": 128, "disk_mib": 64})
    large = settings.pools[1].model_copy(update={"memory_mib": 1 << 40})

    findings = await examine_settings(settings.model_copy(update={"pools": (fits, large)}))

    (said,) = [each for each in findings if "gives out less than one machine needs" in each.what]
    assert (said.subject, said.level) == ("pool b", Level.WARN)
    assert f"of {1 << 40} memory_mib" in said.what


def test_without_a_configuration_room_is_looked_for_where_disks_would_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("firerunner.cli.doctor.DEFAULT_CONFIG", tmp_path / "none.yaml")
    statvfs = os.statvfs
    monkeypatch.setattr("os.statvfs", lambda path: (asked.append(Path(path)), statvfs(path))[1])

    said = CliRunner().invoke(app, ["doctor", "--json", "--config", str(tmp_path / "none.yaml")])

    assert "docs/first-job.md" in said.output
    assert Path(tempfile.gettempdir()) not in {*asked, *(each.parent for each in asked)}


async def test_a_gitlab_that_is_not_there_is_said_once(tmp_path: Path) -> None:
    async with FakeGitLab(tmp_path / "gitlab") as gitlab:
        settings = configured(tmp_path, gitlab.url, {"a": "glrt-x", "b": "glrt-y"})

    findings = await examine_settings(settings)

    assert [finding.level for finding in findings if finding.subject == "gitlab"] == [Level.FAIL]


async def test_a_pool_with_an_uplink_needs_nft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = configured(tmp_path, "http://127.0.0.1:9", {"a": "glrt-x", "b": "glrt-y"})
    open_one = settings.pools[0].model_copy(update={"egress": (Internet(443),)})
    settings = settings.model_copy(update={"pools": (open_one, settings.pools[1])})
    there = await examine_settings(settings)
    monkeypatch.setattr("firerunner.machines.qemu.checks.find_program", lambda _name: None)
    missing = await examine_settings(settings)

    assert [finding for finding in there if "nft" in finding.what] == []
    assert [(f.subject, f.level) for f in missing if "nft is not installed" in f.what] == [
        ("pool a", Level.FAIL)
    ]
