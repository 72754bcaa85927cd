"""`python -m bench`: what it takes, what it leaves behind, and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from xml.dom.minidom import Element, parseString

import pytest
from bench import __main__ as frame
from bench import plot
from bench.facts import commit, cpu_model
from bench.rows import Goal, Row, measured

from firerunner.errors import FireRunnerError


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    async def facts() -> dict[str, object]:
        return {"cpu": "a processor", "cores": 2}

    monkeypatch.setattr(frame, "OUT", tmp_path)
    monkeypatch.setattr(frame, "machine_facts", facts)
    return tmp_path


def given(monkeypatch: pytest.MonkeyPatch, name: str, rows: list[Row] | BaseException) -> list[int | None]:
    """A bench of that name which finds these rows; returns the rounds that it is asked for."""
    asked: list[int | None] = []

    async def measure(rounds: int | None = None) -> list[Row]:
        asked.append(rounds)
        if isinstance(rows, BaseException):
            raise rows
        return rows

    module = ModuleType(f"bench.{name}")
    module.measure = measure  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"bench.{name}", module)
    return asked


def one(ok: bool) -> list[Row]:
    return [measured("fast", [1.0, 2.0, 3.0], [2.0], target=Goal("ratio", "<=", 1.0 if ok else 0.5))]


def test_a_bench_leaves_a_document_and_a_picture(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, "plan", one(True))

    assert frame.main(["plan"]) == 0

    found = json.loads((out / "plan.json").read_text())
    assert found["bench"] == "plan"
    assert found["machine"]["cpu"] == "a processor"
    assert found["machine"]["load_before"] >= 0
    assert found["rows"][0]["goal"] == {"of": "ratio", "op": "<=", "number": 1.0}
    assert "fast" in texts((out / "plan.svg").read_text())
    assert "fast" in capsys.readouterr().out


def test_a_missed_goal_fails_it(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "plan", one(False))

    assert frame.main(["plan"]) == 1
    assert json.loads((out / "plan.json").read_text())["rows"][0]["ok"] is False


def test_the_number_of_rounds_is_passed_on(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = given(monkeypatch, "plan", one(True))

    frame.main(["plan", "--rounds", "7"])

    assert asked == [7]


@pytest.mark.parametrize(
    "error", [FireRunnerError("no tap", remedy="Be root"), OSError("no tap"), KeyError("tap")]
)
def test_a_bench_that_cannot_run_says_why_fails_and_leaves_nothing_old(
    error: Exception, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "burst.json").write_text("from an earlier run")
    given(monkeypatch, "burst", error)
    given(monkeypatch, "plan", one(True))

    assert frame.main(["burst", "plan"]) == 1

    assert "tap" in capsys.readouterr().err
    assert not (out / "burst.json").exists()
    assert (out / "plan.json").exists()


def test_an_interruption_ends_it(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "burst", KeyboardInterrupt())
    asked = given(monkeypatch, "plan", one(True))

    assert frame.main(["burst", "plan"]) == 130
    assert asked == []


@pytest.mark.parametrize("arguments", [["nope"], ["plan", "--rounds", "0"], ["--rounds", "many"]])
def test_what_cannot_be_understood_is_refused(arguments: list[str], out: Path) -> None:
    with pytest.raises(SystemExit) as refused:
        frame.main(arguments)
    assert refused.value.code == 2


def elements(svg: str, name: str) -> list[Element]:
    return list(parseString(svg).getElementsByTagName(name))  # noqa: S318  (our own picture)


def texts(svg: str) -> list[str]:
    """What stands in a picture. Raises an error if it is no XML."""
    return [text.firstChild.data for text in elements(svg, "text")]


def test_steps_are_one_bar_for_each_way_with_its_whole_length() -> None:
    svg = plot.draw("by state", {"cold": [[("boots", 3.0), ("runs", 1.5)]], "warm": [[("runs", 1.0)]]})

    assert texts(svg) == ["by state", "cold", "4.50", "warm", "1.00", "boots", "runs"]
    widths = [float(bar.getAttribute("width")) for bar in elements(svg, "rect")[1:4]]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.01)
    assert widths[0] == pytest.approx(3 * widths[2], rel=0.01)


def test_names_in_a_picture_are_text_and_not_markup() -> None:
    assert "a < b & <script>" in texts(plot.draw("a < b & <script>", {}))


def test_what_is_negative_is_drawn_without_a_length(tmp_path: Path) -> None:
    plot.steps(tmp_path / "a.svg", "less", {"cold": {"before": -1.0}})

    assert "0.00" in texts((tmp_path / "a.svg").read_text())


def test_a_row_without_a_floor_is_drawn_too(tmp_path: Path) -> None:
    plot.write(tmp_path / "a.svg", "some", [measured("alone", [1.5])])

    assert "alone" in (tmp_path / "a.svg").read_text()


def test_the_processor_is_read_from_the_kernel_s_list() -> None:
    assert (
        cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nmodel name\t: other\n")
        == "Some CPU @ 3 GHz"
    )
    assert cpu_model("") == ""


def test_the_commit_is_the_one_of_the_repository() -> None:
    assert len(commit().rstrip("+")) in {0, 12}
