"""Counts, observes and exports what the catalogue declares, for one service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from firerunner.telemetry import catalogue
from firerunner.telemetry.catalogue import Declared, Kind

Sample: TypeAlias = tuple[Declared, tuple[str, ...], float]
"""A `SCRAPED` metric, the values of its labels in their order, and its own."""

Source = Callable[[], Iterable[Sample]]


class Metrics:
    """One registry for one service, so that two services in one process do not mix."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a line for each series, read by nobody
        self.registry = CollectorRegistry()
        self._counters: dict[Declared, Counter] = {}
        self._counted: dict[tuple[Declared, tuple[str, ...]], Counter] = {}
        """Each series that has been counted: to find it by its labels takes as long as a hook's proof."""
        self._gauges: dict[Declared, Gauge] = {}
        self._histograms: dict[Declared, Histogram] = {}
        self._scraped = _Scraped()
        for each in catalogue.ALL:
            self._declare(each)
        self.registry.register(self._scraped)
        ProcessCollector(registry=self.registry)

    def _declare(self, each: Declared) -> None:
        match each.kind:
            case Kind.COUNTER:
                self._counters[each] = Counter(each.name, each.text, each.labels, registry=self.registry)
            case Kind.GAUGE:
                self._gauges[each] = Gauge(each.name, each.text, each.labels, registry=self.registry)
            case Kind.HISTOGRAM:
                self._histograms[each] = Histogram(
                    each.name, each.text, each.labels, registry=self.registry, buckets=each.buckets
                )

    def count(self, what: Declared, *labels: str, by: float = 1.0) -> None:
        """Add to a counter. `by` 0 makes it known, so that its first step is seen as one."""
        counted = self._counted.get((what, labels))
        if counted is None:
            counter = self._counters[what]
            counted = self._counted[what, labels] = counter.labels(*labels) if labels else counter
        counted.inc(by)

    def observe(self, what: Declared, seconds: float, *labels: str) -> None:
        """Put one figure into a histogram."""
        histogram = self._histograms[what]
        (histogram.labels(*labels) if labels else histogram).observe(seconds)

    def set(self, what: Declared, value: float, *labels: str) -> None:
        """Say what a gauge shows from now on."""
        gauge = self._gauges[what]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def forget(self, what: Declared, *labels: str) -> None:
        """What a gauge showed is not known any more."""
        self._gauges[what].remove(*labels)

    def read_at_scrape(self, source: Source) -> None:
        """Ask `source` each time that Prometheus asks."""
        self._scraped.sources.append(source)

    def value(self, what: Declared, *labels: str) -> float:
        """What a counter or gauge shows; 0 if nothing."""
        named = dict(zip(what.labels, labels, strict=True))
        return self.registry.get_sample_value(what.name, named) or 0.0

    def read(self) -> None:
        """Ask the sources. In the thread that they belong to."""
        self._scraped.read()

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes, with what was read last. In any thread."""
        return generate_latest(self.registry)


class _Scraped(Collector):
    """The metrics that are read when they are asked for."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._families: list[GaugeMetricFamily] = []
        self.read()

    def read(self) -> None:
        families = {
            each: GaugeMetricFamily(each.name, each.text, labels=each.labels)
            for each in catalogue.ALL
            if each.kind is Kind.SCRAPED
        }
        for source in self.sources:
            for what, labels, value in source():
                families[what].add_metric(list(labels), value)
        self._families = list(families.values())

    def collect(self) -> Iterator[Metric]:
        yield from self._families
