"""A configuration is either understood or refused with the place and the remedy."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from firerunner.errors import SettingsError
from firerunner.machines.spec import Destination
from firerunner.settings import load_settings

GOOD = """
gitlab: {url: "http://127.0.0.1:8929", clone_url: "http://gitlab.test:8929"}
pools:
  - {name: small, runner_token: glrt-secret, image: demo, max_job_time: 1h30m,
     egress: [gitlab, "mirror.test:3142"]}
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "firerunner.yaml"
    path.write_text(text)
    return path


def test_a_good_file_gives_typed_settings(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, GOOD))

    pool = settings.pool("small")
    assert pool.max_job_time == 5400
    assert pool.outside(settings.gitlab[0].destination) == (
        Destination("gitlab.test", 8929, connect_to="127.0.0.1"),
        Destination("mirror.test", 3142),
    )


def test_a_gitlab_at_an_ipv6_address_is_a_destination_by_name(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, GOOD.replace("127.0.0.1", "[::1]")))

    assert settings.gitlab[0].destination == Destination("gitlab.test", 8929, connect_to="[::1]")


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, GOOD))

    assert "glrt-secret" not in str(settings.shown())
    assert "glrt-secret" not in repr(settings)


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRERUNNER_STATE_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("FIRERUNNER_GITLAB__URL", "https://gitlab.example.com/")

    settings = load_settings(written(tmp_path, GOOD))

    assert settings.state_dir == tmp_path / "elsewhere"
    assert settings.gitlab[0].url == "https://gitlab.example.com"


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("glrt-from-file\n")
    text = GOOD.replace("runner_token: glrt-secret", f"runner_token_file: {tmp_path / 'token'}")

    settings = load_settings(written(tmp_path, text))

    assert settings.pools[0].runner_token.get_secret_value() == "glrt-from-file"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("clone_url:", "clon_url:", "gitlab.clon_url: unknown key; did you mean `clone_url`?"),
        ("name: small", "name: Small", "pools[0].name: expected lower-case letters"),
        ("name: small", "nam: small", "pools[0].nam: unknown key; did you mean `name`?"),
        ("1h30m", "1 hour", "pools[0].max_job_time: expected a duration such as 30s"),
        ("http://127.0.0.1:8929", "gitlab.test", "gitlab.url: expected http(s)://host"),
        ("runner_token: glrt-secret", "runner_token_file: /nowhere/at/all", "runner_token_file: cannot read"),
        ('"mirror.test:3142"', "mirror", "pools[0].egress[1]: expected `gitlab`, host:port"),
        ("image: demo", "image: demo, hosts: [far]", "small names the host 'far', which is not in hosts"),
        ("gitlab: {url", "gitlab: {url: [", "is not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = written(tmp_path, GOOD.replace(old, new))

    with pytest.raises(SettingsError) as caught:
        load_settings(path)

    assert said in str(caught.value)
    assert str(path) in str(caught.value)


MANY = """\
gitlab:
  url: https://gitlab.example.com
  webhook_secrt: too short
pools:
  - name: small
    image: demo
    runner_token: glrt-secret
    memory_mib: 4G
    egress:
      - gitlab
      - mirror
  - image: demo
    runner_token: glrt-other
"""


def test_every_mistake_is_said_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(written(tmp_path, MANY))

    places = [line.strip().partition(": ") for line in str(caught.value).splitlines()[1:] if "line " in line]
    assert {(line, rest.partition(":")[0]) for line, _, rest in places} == {
        ("line 3", "gitlab.webhook_secrt"),
        ("line 8", "pools[0].memory_mib"),
        ("line 11", "pools[0].egress[1]"),
        ("line 12", "pools[1].name"),  # which is missing: where its pool begins
    }


def test_a_mistake_in_the_environment_is_in_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRERUNNER_GITLAB__URL", "gitlab.example.com")

    with pytest.raises(SettingsError) as caught:
        load_settings(written(tmp_path, GOOD))

    assert "gitlab.url: expected http(s)://host" in str(caught.value)
    assert "line" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"gitlab:\n\turl: x\n", "there is a tab, where YAML takes spaces only, in line 2, column 1"),
        (b"gitlab: {}\npools: []\ngitlab: {}\n", "a key stands here for the second time in its section, in"),
        (b"pools: [{name: a, name: b}]\n", "in line 1, column 19"),
        (b"a: 1\nb: \xff\n", "line 2 is not text in UTF-8"),
        (
            b"gitlab: {url: 'https://a.example'}\npools: {name: a}\n",
            "pools: expected a list: each item begins",
        ),
        (b"gitlab:\npools:\n", "gitlab: expected a list"),
        (b"gitlab: {url: 'https://a.example'}\npools: [{name: 3, image: a}]\n", "name: expected text"),
        (b"gitlab: {url: 'https://a.example'}\npools: [{memory_mib: 4G}]\n", "memory_mib: expected a whole"),
    ],
)
def test_what_is_typed_wrong_most_often_is_said_in_words_of_yaml(
    tmp_path: Path, text: bytes, said: str
) -> None:
    path = tmp_path / "firerunner.yaml"
    path.write_bytes(text)

    with pytest.raises(SettingsError) as caught:
        load_settings(path)

    assert said in str(caught.value)
    assert "check again" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"glrt-one\ntwo\n", "pools[0].runner_token_file: expected a runner authentication token (`glrt-"),
        (b"glpat-one\n", "pools[0].runner_token_file: expected a runner authentication token (`glrt-"),
        (b"GR1348941one\n", "this is another kind of token; `firerunner gitlab setup` makes the runner"),
        (b"\xff\xfe", "it is not text in UTF-8"),
        (b"", "small.token is empty"),
    ],
)
def test_a_token_file_with_something_else_in_it_is_named_by_its_key(
    tmp_path: Path, content: bytes, said: str
) -> None:
    (tmp_path / "small.token").write_bytes(content)
    text = GOOD.replace("runner_token: glrt-secret", "runner_token_file: small.token")

    with pytest.raises(SettingsError) as caught:
        load_settings(written(tmp_path, text))

    assert said in str(caught.value)


def test_a_token_with_a_prefix_of_the_instance_is_one(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, GOOD.replace("glrt-secret", "acme-glrt-secret")))

    assert settings.pools[0].token == "acme-glrt-secret"


def test_sections_may_be_merged_with_one_another(tmp_path: Path) -> None:
    text = GOOD.replace("- {name: small,", "- &it {name: small,") + "  - {<<: *it, name: other}\n"

    assert [pool.name for pool in load_settings(written(tmp_path, text)).pools] == ["small", "other"]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory"), "there is no such file. Write it"),
        (PermissionError(13, "Permission denied"), "not for this user. Run as root"),
        (IsADirectoryError(21, "Is a directory"), "Is a directory. Name another file with --config"),
    ],
)
def test_a_file_that_cannot_be_read_comes_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, said: str
) -> None:
    path = written(tmp_path, GOOD)
    monkeypatch.setattr(Path, "read_text", Mock(side_effect=error))

    with pytest.raises(SettingsError) as caught:
        load_settings(path)

    assert said in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--config"):
        load_settings(tmp_path / "none.yaml")


MISSING = """
gitlab: {url: "http://127.0.0.1:8929", webhook_secret_file: hook, webhook_signing_token_file: signing}
pools:
  - {name: small, runner_token_file: small.token, image: demo}
"""


def test_secrets_that_setup_will_write_may_be_missing_if_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text("")
    path = written(tmp_path, MISSING)

    with pytest.raises(SettingsError, match=r"runner_token_file: cannot read"):
        load_settings(path)
    settings = load_settings(path, missing_secrets="placeholder")

    assert settings.pool("small").secret_path("runner_token") == tmp_path / "small.token"
    assert settings.gitlab[0].secret_path("webhook_secret") == tmp_path / "hook"
    assert settings.gitlab[0].secret_path("webhook_signing_token") == tmp_path / "signing"
    assert settings.gitlab[0].secret_path("api_token") is None


def test_a_secret_that_is_missing_is_one_mistake(tmp_path: Path) -> None:
    text = GOOD.replace("gitlab: {url:", "gitlab: {webhook_secret_file: hook, url:")
    with pytest.raises(SettingsError) as caught:
        load_settings(written(tmp_path, text))

    assert str(caught.value).count("\n") == 1
    assert "webhook_secret_file: cannot read" in str(caught.value)


def test_a_secret_that_nobody_writes_may_not_be_missing(tmp_path: Path) -> None:
    path = written(tmp_path, MISSING.replace("webhook_secret_file", "api_token_file"))

    with pytest.raises(SettingsError, match=r"api_token_file: cannot read"):
        load_settings(path, missing_secrets="placeholder")


def test_templates_say_which_gitlab_and_ask_for_nothing_themselves(tmp_path: Path) -> None:
    text = GOOD.replace("clone_url:", "api_token: glpat-x, clone_url:")
    settings = load_settings(
        written(tmp_path, text + "  - {name: sized, image: demo, sized: {max_vcpu: 4}}\n")
    )

    assert [(pool.name, pool.gitlab) for pool in settings.templates()] == [("sized", "gitlab")]
    assert list(settings.asking_pools()) == ["small"]
