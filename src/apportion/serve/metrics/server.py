"""The server and its process."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

from apportion import __version__
from apportion.core.resident import peak_rss_bytes, rss_bytes
from apportion.serve.metrics.metric import Values, counter, gauge
from apportion.serve.metrics.sight import Sight


def build_info(sight: Sight) -> Values:
    yield (__version__,), 1


def uptime(sight: Sight) -> Values:
    yield (), monotonic() - sight.site.started_s


def ready(sight: Sight) -> Values:
    yield (), sight.site.is_ready


def resident(sight: Sight) -> Values:
    yield (), rss_bytes()


def peak_resident(sight: Sight) -> Values:
    yield (), peak_rss_bytes()


def viewers(sight: Sight) -> Values:
    yield (), sight.site.broadcast.num_viewers


def answered(sight: Sight) -> Iterator[tuple[tuple[str, ...], float]]:
    for (route, status), count in list(sight.site.meters.answered.items()):
        yield (route, str(status)), count


def mismatches(sight: Sight) -> Iterator[tuple[tuple[str, ...], float]]:
    for model in sight.site.meters.by_model:
        yield (model,), sight.site.meters.mismatches[model]


METRICS = (
    gauge("apportion_build_info", "Always 1; the version is a label.", ("version",), build_info),
    gauge("apportion_uptime_seconds", "Seconds since the server started.", (), uptime),
    gauge("apportion_ready", "1 where a model is loaded and requests are taken.", (), ready),
    gauge("apportion_process_resident_bytes", "Resident memory of the process.", (), resident),
    gauge(
        "apportion_process_peak_resident_bytes", "The most that it was since the start.", (), peak_resident
    ),
    gauge("apportion_status_viewers", "Connections that watch the status.", (), viewers),
    counter(
        "apportion_http_requests_total",
        "HTTP requests, by the route's template (empty for none of ours) and the status; 499 for clients "
        "that left.",
        ("route", "status"),
        answered,
    ),
    counter(
        "apportion_call_mismatches_total",
        "Calls of tools in answers that could not be read, and were passed on as text.",
        ("model",),
        mismatches,
    ),
)
