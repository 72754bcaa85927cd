"""image.yaml is understood or refused with the place and the remedy; unchanged, it is the same recipe."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from firerunner.errors import ImageError
from firerunner.images import RunnerKind, RunnerSource
from firerunner.images.declaration import EXAMPLE, Declaration, read_declaration
from firerunner.images.declared import recipe_of
from firerunner.images.exchange import parse_reference
from firerunner.images.recipe import Recipe
from firerunner.images.runner_binary import require_checksum

RUNNER = RunnerSource(RunnerKind.OFFICIAL, Path("runner"), "19.4.0", "a" * 64)

FULL = """
name: ci
packages: [make, g++]
apt:
  - {uri: "https://packages.test/debian", suite: bookworm, components: [main, extra], key: vendor.asc}
files:
  - {source: pip.conf, destination: /etc/pip.conf, mode: "0640", owner: "builder:tty"}
environment: {LANG: de_DE.UTF-8, EMPTY: ""}
run: ["useradd builder"]
runner: {binary: bin/gitlab-runner, sha256: SUM}
docker: {helper_image: prebuilt-alpine-x86_64.tar.xz}
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "image.yaml"
    path.write_text(text.replace("SUM", "b" * 64))
    (directory / "pip.conf").write_text("[global]\n")
    (directory / "vendor.asc").write_text("a key\n")
    (directory / "prebuilt-alpine-x86_64.tar.xz").write_bytes(b"helper")
    return path


def recipe(directory: Path, text: str = FULL) -> Recipe:
    return recipe_of(read_declaration(written(directory, text)))


def test_all_of_it_is_understood(tmp_path: Path) -> None:
    made = recipe(tmp_path)

    assert (made.name, made.packages, made.commands, made.docker) == (
        "ci",
        ("make", "g++"),
        ("useradd builder",),
        True,
    )
    assert made.environment == (("EMPTY", ""), ("LANG", "de_DE.UTF-8"))
    assert made.apt[0].line("/key") == (
        "deb [arch=amd64 signed-by=/key] https://packages.test/debian bookworm main extra"
    )
    assert (made.files[0].mode, made.files[0].owner) == ("0640", "builder:tty")
    places = {each.destination: each.sha256 for each in made.files}
    assert places == {
        "/etc/pip.conf": hashlib.sha256(b"[global]\n").hexdigest(),
        "/usr/local/lib/gitlab-runner/helper-images/prebuilt-alpine-x86_64.tar.xz": hashlib.sha256(
            b"helper"
        ).hexdigest(),
    }
    assert "docker.io" in made.all_packages(RUNNER)
    assert read_declaration(tmp_path / "image.yaml").runner.binary == tmp_path / "bin/gitlab-runner"


def test_the_example_and_an_empty_file_are_right(tmp_path: Path) -> None:
    assert read_declaration(written(tmp_path, EXAMPLE)).name == "default"
    assert read_declaration(written(tmp_path, "")) == Declaration()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("packages:", "package:", "package: unknown key; did you mean `packages`?"),
        ("source: pip.conf", "sourc: pip.conf", "files[0].sourc: unknown key; did you mean `source`?"),
        ("sha256: SUM", "sha265: SUM", "runner.sha265: unknown key; did you mean `sha256`?"),
        ("/etc/pip.conf", "etc/pip.conf", "files[0].destination: expected an absolute path"),
        ("/etc/pip.conf", "/etc/../root/x", "files[0].destination: expected an absolute path"),
        ("/etc/pip.conf", "/run/pip.conf", "/run is empty when a guest boots"),
        ("/etc/pip.conf", "//run/./pip.conf", "/run is empty when a guest boots"),
        ("/etc/pip.conf", "/var/run/pip.conf", "/var/run is empty when a guest boots"),
        ("/etc/pip.conf", "/var/lib/docker/x", "/var/lib/docker is empty when a guest boots"),
        ("/etc/pip.conf", "/etc/firerunner/environment", "/etc/firerunner is written by the build"),
        ("builder:tty", "builder; reboot", "files[0].owner: "),
        ("EMPTY:", "1EMPTY:", "environment.1EMPTY"),
        ('EMPTY: ""', 'EMPTY: "a\\nb"', "environment.EMPTY: "),
        ("https://packages", "ftp://packages", "apt[0].uri: "),
        ("packages.test/debian", "packages.test/debian x", "apt[0].uri: "),
        (", components: [main, extra]", "", "apt[0]: components are needed"),
        ("suite: bookworm", "suite: ./", "apt[0]: components are needed, unless"),
        ("key: vendor.asc", "key: gone.asc", "the key of https://packages.test/debian, cannot be read"),
        ("key: vendor.asc", "kye: vendor.asc", "apt[0].kye: unknown key; did you mean `key`?"),
        ("sha256: SUM", "key: vendor.asc", "runner: key is about GitLab's release"),
        ("/etc/pip.conf", "/etc/hosts", "written anew in every guest"),
        ("/etc/pip.conf", "/usr/local/bin/gitlab-runner", "give the runner by runner.binary"),
        ("source: pip.conf", "source: nowhere", "nowhere, a file, cannot be read: No such file"),
        ("g++", "--option", "packages[1]: "),
        ("prebuilt-alpine-x86_64.tar.xz", "helper.tgz", "neither of GitLab's package nor of `docker save`"),
        ("name: ci", "name: CI", "name: "),
        ("name: ci", "name: ci\ncloud_init: true", "docker and cloud_init are both given"),
        ("name: ci", "name: [ci", "is not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(ImageError) as caught:
        recipe(tmp_path, FULL.replace(old, new))

    assert said in str(caught.value)


def test_an_unchanged_recipe_has_the_same_digest_and_each_change_another(tmp_path: Path) -> None:
    digests = {recipe(tmp_path).digest(RUNNER), recipe(tmp_path).digest(RUNNER)}
    assert len(digests) == 1

    changes = (
        *(("make", "cmake"), ("useradd", "adduser"), ("/etc/pip", "/etc/pip2"), ("docker:", "#")),
        *(("builder:tty", "root"), ("0640", "0600"), ("de_DE", "fr_FR"), ("extra]", "more]")),
    )
    for old, new in changes:
        digests.add(recipe(tmp_path, FULL.replace(old, new)).digest(RUNNER))
    made = recipe(tmp_path)
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = x\n")
    digests.add(recipe_of(read_declaration(tmp_path / "image.yaml")).digest(RUNNER))

    (tmp_path / "vendor.asc").write_text("another key\n")
    digests.add(recipe_of(read_declaration(tmp_path / "image.yaml")).digest(RUNNER))

    assert len(digests) == 11
    assert made.root_digest(RUNNER, "6.1.0-1") != made.root_digest(RUNNER, "6.1.0-2")


def test_a_repository_without_components_ends_with_a_slash(tmp_path: Path) -> None:
    flat = FULL.replace("suite: bookworm, components: [main, extra]", "suite: ./")

    assert recipe(tmp_path, flat).apt[0].line("/k").endswith(" https://packages.test/debian ./")


@pytest.mark.parametrize(
    ("given", "kept", "unpack"),
    [
        ("prebuilt-alpine-x86_64.tar.xz", "prebuilt-alpine-x86_64.tar.xz", "xz"),
        ("prebuilt-ubuntu-x86_64.docker.tar.zst", "prebuilt-ubuntu-x86_64.docker.tar.zst", "zstd"),
        ("saved.tar", "prebuilt-alpine-x86_64.docker.tar.zst", ""),
    ],
)
def test_a_helper_image_lies_unpacked_where_the_runner_looks(
    tmp_path: Path, given: str, kept: str, unpack: str
) -> None:
    (tmp_path / given).write_bytes(b"")
    made = recipe(tmp_path, FULL.replace("prebuilt-alpine-x86_64.tar.xz", given))

    assert made.files[-1].destination == f"/usr/local/lib/gitlab-runner/helper-images/{kept}"
    assert made.files[-1].unpack == unpack


def test_a_runner_that_is_not_the_pinned_one_is_refused() -> None:
    require_checksum(RUNNER, None)
    require_checksum(RUNNER, "a" * 64)
    with pytest.raises(ImageError, match="bbbb is demanded"):
        require_checksum(RUNNER, "b" * 64)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("registry.test/ci/image", ("registry.test", "ci/image", "", "")),
        ("registry.test:5000/ci/image:v1", ("registry.test:5000", "ci/image", "v1", "")),
        ("[::1]:5000/image", ("[::1]:5000", "image", "", "")),
        (f"r.test/a@sha256:{'0' * 64}", ("r.test", "a", "", f"sha256:{'0' * 64}")),
    ],
)
def test_a_place_in_a_registry(text: str, parts: tuple[str, ...]) -> None:
    assert tuple(parse_reference(text).values()) == parts


@pytest.mark.parametrize("text", ["image", "registry.test/", "registry.test/Image", "r.test/a@sha256:00", ""])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ImageError, match="is not a registry and repository"):
        parse_reference(text)
