"""Values that several subjects share: secrets, lists, proxies, several GitLabs, options of the runner."""

from __future__ import annotations

import base64
import ipaddress
from pathlib import Path

import pytest

from firerunner.errors import SettingsError
from firerunner.settings import Settings, load_settings
from firerunner.settings.proxy import bypasses
from firerunner.settings.runner_config import OURS, parse_fragment

POOL = "  - {name: small, runner_token: glrt-secret, image: demo}\n"
ONE = "gitlab: {url: 'https://gitlab.example.com'}\npools:\n" + POOL
TWO = """
gitlab:
  - {name: one, url: "https://one.example.com", webhook_secret: first}
  - {name: two, url: "https://two.example.com/gitlab/"}
pools:
  - {name: small, runner_token: glrt-secret, image: demo, gitlab: two}
"""
SIGNING = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def load(directory: Path, text: str) -> Settings:
    path = directory / "firerunner.yaml"
    path.write_text(text)
    return load_settings(path)


def refusal(directory: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(directory, text)
    return str(caught.value)


def test_several_gitlabs_and_each_pool_knows_its_own(tmp_path: Path) -> None:
    settings = load(tmp_path, TWO)

    assert settings.gitlab_of(settings.pools[0]).url == "https://two.example.com/gitlab"
    assert settings.asking_pools()["small"].gitlab == "two"
    assert load(tmp_path, ONE).asking_pools()["small"].gitlab == "gitlab"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (", gitlab: two", "", "small must say which `gitlab`: one, two"),
        ("gitlab: two", "gitlab: three", "small names the gitlab 'three', which is not there"),
        ("name: two", "name: one", "gitlab: the name 'one' is used twice"),
        ("name: two", "nam: two", "gitlab[1].nam: unknown key; did you mean `name`?"),
        ("webhook_secret: first", "webhook_secret: ''", "gitlab[0].webhook_secret: is empty"),
        ("webhook_secret: first", "webhook_signing_token: whsec_x", "expected `whsec_` and the base64"),
        ("https://two", "https://user:pass@two", "must hold no user"),
        ("https://two.example.com/gitlab/", "https://two:99999", "expected http(s)://host"),
    ],
)
def test_mistakes_with_several_gitlabs_are_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    message = refusal(tmp_path, TWO.replace(old, new))

    assert said in message
    assert "pass@" not in message


def test_a_signing_token_of_32_bytes_is_taken(tmp_path: Path) -> None:
    settings = load(tmp_path, TWO.replace("webhook_secret: first", f"webhook_signing_token: {SIGNING}"))

    assert settings.gitlab[0].knows_its_hooks
    assert not settings.gitlab[1].knows_its_hooks


def test_a_relative_secret_is_beside_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("glrt-beside\n")

    settings = load(tmp_path, ONE.replace("runner_token: glrt-secret", "runner_token_file: token"))

    assert settings.pools[0].token == "glrt-beside"
    assert settings.secret_files == {tmp_path / "token"}


def test_systemds_credentials_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "token").write_text("glrt-of-systemd")
    (tmp_path / "token").write_text("glrt-beside")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))

    settings = load(tmp_path, ONE.replace("runner_token: glrt-secret", "runner_token_file: token"))

    assert settings.pools[0].token == "glrt-of-systemd"


def test_a_rotated_secret_is_read_again_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("glrt-first")
    settings = load(tmp_path, ONE.replace("runner_token: glrt-secret", "runner_token_file: token"))
    (tmp_path / "token").write_text("glrt-second")
    (tmp_path / "firerunner.yaml").write_text("half writ")

    again = settings.reread()

    assert again.pools[0].token == "glrt-second"
    assert again.gitlab == settings.gitlab


@pytest.mark.parametrize("key", ["gitlab.webhook_secret", "gitlab.api_token", "proxy.url", "database.url"])
def test_every_secret_may_be_in_a_file(tmp_path: Path, key: str) -> None:
    section, _, name = key.partition(".")
    (tmp_path / "secret").write_text("http://secret.example.com\n")
    line = f"{name}_file: secret"
    text = ONE.replace("'}", f"', {line}}}", 1) if section == "gitlab" else f"{ONE}{section}: {{{line}}}\n"

    settings = load(tmp_path, text)

    held = getattr(settings, section)
    value = getattr(held[0] if isinstance(held, tuple) else held, name)
    assert value.get_secret_value() == "http://secret.example.com"
    assert "secret.example.com" not in str(settings.shown())


def test_lists_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRERUNNER_WEBHOOK__ALLOW", "10.0.0.0/8, 2001:db8::/32")
    monkeypatch.setenv("FIRERUNNER_PROXY__NO_PROXY", "localhost,.example.com")

    settings = load(tmp_path, ONE)

    assert settings.webhook.allow == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("2001:db8::/32"),
    )
    assert settings.proxy.no_proxy == ("localhost", ".example.com")


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("FIRERUNNER_WEBHOK__ALLOW", "10.0.0.0/8", "did you mean FIRERUNNER_WEBHOOK?"),
        ("FIRERUNNER_WEBHOOK__ALOW", "10.0.0.0/8", "webhook.alow: unknown key; did you mean `allow`?"),
        ("FIRERUNNER_WEBHOOK__ALLOW", "ten", "webhook.allow[0]: expected a network"),
        ("FIRERUNNER_POOLS", '[{"name":', "pools: "),
    ],
)
def test_mistakes_in_the_environment_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)

    assert said in refusal(tmp_path, ONE)


def test_the_predecessors_configuration_is_recognised(tmp_path: Path) -> None:
    assert "docs/migration.md" in refusal(tmp_path, ONE + "scheduler: {queue_size: 1000}\n")


@pytest.mark.parametrize(
    ("host", "no_proxy", "direct"),
    [
        ("localhost", (), True),
        ("127.0.0.9", (), True),
        ("::1", (), True),
        ("gitlab.example.com", (), False),
        ("gitlab.example.com", ("example.com",), True),
        ("gitlab.example.com", (".example.com",), True),
        ("notexample.com", ("example.com",), False),
        ("GitLab.Example.COM.", ("gitlab.example.com",), True),
        ("10.1.2.3", ("10.0.0.0/8",), True),
        ("11.1.2.3", ("10.0.0.0/8",), False),
        ("2001:db8::7", ("2001:db8::/32",), True),
        ("10.1.2.3", ("example.com",), False),
        ("gitlab.example.com", ("*",), True),
    ],
)
def test_who_is_reached_without_the_proxy(host: str, no_proxy: tuple[str, ...], direct: bool) -> None:
    assert bypasses(host, no_proxy) is direct


def test_a_fragment_is_taken_with_and_without_its_head() -> None:
    bare = 'executor = "docker"\n[docker]\nimage = "debian:12"\n'
    whole = '[[runners]]\nexecutor = "docker"\n[runners.docker]\nimage = "debian:12"\n'

    expected = {"executor": "docker", "docker": {"image": "debian:12"}}
    assert parse_fragment(bare) == parse_fragment(whole) == expected


@pytest.mark.parametrize("key", sorted(OURS))
def test_a_fragment_cannot_name_another_gitlab_or_token(tmp_path: Path, key: str) -> None:
    message = refusal(tmp_path, ONE.replace("image: demo", f"image: demo, runner_config: '{key} = \"x\"'"))

    assert f"pools[0].runner_config: `{key}` is set by FireRunner" in message


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        ("executor = ", "is not TOML"),
        ('executor = "kubernetes"', "cannot work inside a machine"),
        ('environment = ["A"]', 'expected a list of "NAME=value"'),
        ("docker = 3", "expected a section"),
        ("concurrent = 4\n[[runners]]\n", "`concurrent` stands outside"),
        ("[[runners]]\n[[runners]]\n", "holds 2 [[runners]] sections"),
    ],
)
def test_mistakes_in_a_fragment_are_named(fragment: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_fragment(fragment)

    assert said in str(caught.value)


def test_a_certificate_that_is_not_there_is_named_before_anything_starts(tmp_path: Path) -> None:
    message = refusal(tmp_path, ONE.replace("image: demo", "image: demo, ca_file: ca.pem"))

    assert f"pools[0].ca_file: cannot read {tmp_path / 'ca.pem'}" in message
    (tmp_path / "ca.pem").write_text("pem")
    settings = load(tmp_path, ONE.replace("image: demo", "image: demo, ca_file: ca.pem"))
    assert settings.pools[0].ca_file == tmp_path / "ca.pem"
