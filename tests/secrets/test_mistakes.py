"""Mistakes in a configuration are told without what stands there, and `config show` shows no password."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from firerunner.errors import LedgerError, SettingsError
from firerunner.ledger.database import parse_url
from firerunner.settings import load_settings
from tests.secrets.wrong import wrong_configurations

GOOD = """
gitlab:
- {name: gitlab, url: "http://gitlab.test", webhook_secret: canary-webhook-secret}
pools: [{name: small, image: demo, runner_token: glrt-canary}]
api: {operate_token: canary-operator-operate-token-0123456789}
"""


@pytest.mark.parametrize("number", range(len(list(wrong_configurations(GOOD)))))
def test_a_mistake_is_told_without_what_stands_there(number: int, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(list(wrong_configurations(GOOD))[number])

    with pytest.raises(SettingsError) as error:
        load_settings(path)

    said = str(error.value).replace(str(path), "")
    assert "canary" not in said, said
    assert "line" in said or ":" in said


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:canary@h:canary/db", "postgresql://u:p@canary:x/db", "canary", "mysql://u:canary@h/db"],
)
def test_a_database_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    with pytest.raises(LedgerError) as error:
        parse_url(url)

    assert "canary" not in str(error.value)


@pytest.mark.parametrize("token", ["glpat-canary\nglpat-canary2", "glpat-canary x", "glpat-canäry", ""])
def test_a_token_that_no_header_can_hold_is_refused_at_once(token: str, tmp_path: Path) -> None:
    path, file = tmp_path / "config.yaml", tmp_path / "token"
    said = yaml.safe_load(GOOD)
    said["gitlab"][0]["api_token_file"] = str(file)
    file.write_text(token)
    path.write_text(yaml.safe_dump(said))

    with pytest.raises(SettingsError) as error:
        load_settings(path)

    assert "glpat-canary" not in str(error.value)


def test_passwords_in_docker_daemon_are_not_shown(tmp_path: Path) -> None:
    said = yaml.safe_load(GOOD)
    said["pools"][0]["docker_daemon"] = {
        "registry-mirrors": ["https://x:canary@mirror.test/"],
        "proxies": {"http-proxy": "http://x:canary@proxy.test:3128"},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(said))
    settings = load_settings(path)

    assert "canary" not in str(settings.shown())
    assert "https://***@mirror.test/" in str(settings.shown())
    assert "canary" in str(settings.pools[0].docker_daemon)
