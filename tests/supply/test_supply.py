"""What is installed is named exactly, with hashes, from no particular place; and the SBOM says the same."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[2]
LOCKS = {"run.lock": 40, "dev.lock": 40, "build.lock": 3}
"""And how many packages each names at least."""
PINNED = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9._-]*)==(?P<version>[^\s;]+)( ; [^\\]+?)?( --hash=sha256:[0-9a-f]{64})+"
)


def requirements(lock: str) -> list[str]:
    """The lines, continued ones joined, without comments."""
    text = (ROOT / "requirements" / lock).read_text()
    plain = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [" ".join(line.split()) for line in plain.splitlines() if line.strip()]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_one_version_with_hashes(lock: str) -> None:
    lines = requirements(lock)

    assert len(lines) > LOCKS[lock]
    assert [line for line in lines if not PINNED.fullmatch(line)] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_a_place_to_install_from(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()

    found = re.findall(
        r"(?im)^\s*(?:-i|-f|--index-url|--extra-index-url|--find-links|--trusted-host)\b.*", text
    )
    assert found == []
    assert re.findall(r"\w+://\S+", text) == []


def test_all_locks_have_the_same_versions() -> None:
    run, dev, build = (
        {found["name"]: found["version"] for line in requirements(lock) if (found := PINNED.fullmatch(line))}
        for lock in LOCKS
    )

    for lock in (run, build):
        assert {name: version for name, version in lock.items() if dev.get(name) != version} == {}


def test_what_pyproject_asks_for_is_locked() -> None:
    import tomllib

    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[><=]", line)[0].lower() for line in asked}
    locked = {found["name"] for line in requirements("run.lock") if (found := PINNED.fullmatch(line))}

    assert names - locked == set()


def test_the_sbom_is_valid_and_names_what_is_locked() -> None:
    subprocess.run(["make", "-s", "sbom"], cwd=ROOT, check=True, capture_output=True, timeout=120)

    text = (ROOT / "dist" / "sbom.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    said = json.loads(text)
    named = {f"{each['name']}=={each['version']}" for each in said["components"]}
    assert named == {line.split()[0] for line in requirements("run.lock")}
    assert said["metadata"]["component"]["name"] == "firerunner"
    assert all(reference["hashes"] for each in said["components"] for reference in each["externalReferences"])
