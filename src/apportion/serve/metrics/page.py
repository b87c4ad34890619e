"""The page that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from apportion.core.errors import unknown
from apportion.serve.metrics import cache, disk, memory, models, requests, server, vllm
from apportion.serve.metrics.metric import Metric
from apportion.serve.metrics.sight import Sight

OWN: tuple[Metric, ...] = (
    *server.METRICS,
    *memory.METRICS,
    *models.METRICS,
    *requests.METRICS,
    *cache.METRICS,
    *disk.METRICS,
)
COMPAT: dict[str, tuple[Metric, ...]] = {"vllm": vllm.METRICS}


class Seen(Collector):
    """Metrics of one sight of a server."""

    def __init__(self, metrics: tuple[Metric, ...], sight: Sight) -> None:
        self._metrics = metrics
        self._sight = sight

    def collect(self) -> Iterator[Family]:
        for metric in self._metrics:
            yield metric.family(metric.read(self._sight))


class Page:
    """The metrics of a server, in the format that a scraper asks for.

    Args:
        compat: whose names they come under besides.

    Raises:
        NotFound: we do not know these names.
    """

    def __init__(self, compat: Iterable[str]) -> None:
        others: list[Metric] = []
        for name in compat:
            if name not in COMPAT:
                raise unknown("set of metrics", name, COMPAT)
            others += COMPAT[name]
        self.metrics = (*OWN, *others)

    def written(self, sight: Sight, accept: str = "") -> tuple[bytes, str]:
        """The page, and its content type. For any thread: writing takes longer than looking."""
        encode, content_type = choose_encoder(accept)
        return encode(Seen(self.metrics, sight)), content_type
