"""The reference and the schema say what the code does."""

from __future__ import annotations

from pathlib import Path

from firerunner.settings import Settings
from firerunner.settings.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "run `make reference`"


def test_every_setting_is_explained() -> None:
    unexplained = [
        line for line in reference().splitlines() if line.startswith("| `") and line.endswith("|  |")
    ]

    assert unexplained == []


def test_the_schema_takes_what_the_service_takes() -> None:
    schema = Settings.schema_for_editors()
    pool = schema["$defs"]["PoolSettings"]

    assert set(schema["required"]) == {"gitlab", "pools"}
    assert "runner_token_file" in pool["properties"]
    assert set(pool["required"]) == {"name", "image"}
    assert [way.get("type", "section") for way in schema["properties"]["gitlab"]["anyOf"]] == [
        "section",
        "array",
    ]
    assert {way["type"] for way in pool["properties"]["check_interval"]["anyOf"]} == {"number", "string"}
