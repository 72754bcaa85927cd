"""Writes the reference of every metric out of the catalogue: `python -m firerunner.telemetry.reference`."""

from __future__ import annotations

from collections.abc import Iterator

from firerunner.telemetry.catalogue import ALL, Declared, Kind

_HEAD = """# Metrics

Everything that `/metrics` on `listen.web` exports, generated from the code (`make reference`). Labels have
few values: none is a job, a project or a machine. Besides these there are the usual `process_…` metrics of
this process (processor, memory, open files).

Counters and histograms are of one controller: with [several](several-controllers.md), sum them over all.
Gauges of machines, pools and hosts come from the one that leads. Histograms have `_bucket`,
`_sum` and `_count`.

`deploy/prometheus` has [alerts](runbook/index.md) on them and `deploy/grafana` a dashboard.

"""


def reference() -> str:
    """The page, as Markdown."""
    return _HEAD + "\n".join(_rows()) + "\n"


def _rows() -> Iterator[str]:
    yield "| metric | type | labels | meaning |\n|---|---|---|---|"
    for each in ALL:
        labels = ", ".join(f"`{label}`" for label in each.labels) or "none"
        yield f"| `{each.name}` | {_type(each)} | {labels} | {each.text} |"


def _type(each: Declared) -> str:
    return "gauge" if each.kind is Kind.SCRAPED else str(each.kind)


if __name__ == "__main__":
    print(reference(), end="")
