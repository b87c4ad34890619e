"""What a metric is: a name, what it means, and where its values are when somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Literal, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from apportion.core.histogram import Histogram

if TYPE_CHECKING:
    from apportion.serve.metrics.sight import Sight

Kind: TypeAlias = Literal["gauge", "counter", "histogram"]
Values: TypeAlias = Iterable[tuple[tuple[str, ...], "float | Histogram"]]
"""Values, each with those of its labels, in their order."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Args:
        name: with its unit, and `_total` where it is a counter.
        sentence: what it means.
        labels: their names. Their values come from the configuration and from fixed sets, never from clients.
        read: its values now.
    """

    name: str
    kind: Kind
    sentence: str
    labels: tuple[str, ...]
    read: Callable[[Sight], Values]

    def family(self, values: Values = ()) -> Family:
        """The metric with values, as the exposition writes it."""
        if self.kind == "histogram":
            return self._histogram(values)
        make = GaugeMetricFamily if self.kind == "gauge" else CounterMetricFamily
        family = make(self.name, self.sentence, labels=self.labels)
        for labels, value in values:
            assert not isinstance(value, Histogram), self.name
            family.add_metric(labels, value)
        return family

    def _histogram(self, values: Values) -> Family:
        family = HistogramMetricFamily(self.name, self.sentence, labels=self.labels)
        for labels, histogram in values:
            assert isinstance(histogram, Histogram), self.name
            family.add_metric(labels, list(buckets(histogram)), histogram.total)
        return family


def buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    """How many values lie at or below each edge."""
    edges = (*histogram.edges, inf)
    for edge, count in zip(edges, accumulate(histogram.counts), strict=True):
        yield "+Inf" if edge == inf else repr(float(edge)), count


def gauge(name: str, sentence: str, labels: tuple[str, ...], read: Callable[[Sight], Values]) -> Metric:
    return Metric(name, "gauge", sentence, labels, read)


def counter(name: str, sentence: str, labels: tuple[str, ...], read: Callable[[Sight], Values]) -> Metric:
    assert name.endswith("_total"), name
    return Metric(name, "counter", sentence, labels, read)


def histogram(name: str, sentence: str, labels: tuple[str, ...], read: Callable[[Sight], Values]) -> Metric:
    return Metric(name, "histogram", sentence, labels, read)
