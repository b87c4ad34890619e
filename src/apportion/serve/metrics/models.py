"""Models: whether they are loaded, what was foretold of them, and how it came."""

from __future__ import annotations

from collections.abc import Iterator

from apportion.serve.metrics.metric import gauge
from apportion.serve.metrics.sight import Sight
from apportion.serve.schemas.status import Speeds
from apportion.serve.status.speeds import forecast_of, measured, plan_errors

Labelled = Iterator[tuple[tuple[str, ...], float]]
STATES = ("unloaded", "loading", "loaded", "failed")


def states(sight: Sight) -> Labelled:
    for info in sight.models:
        for state in STATES:
            yield (info.name, state), info.state == state


def load_progress(sight: Sight) -> Labelled:
    for info in sight.models:
        yield (info.name,), 1.0 if info.name in sight.loaded else info.progress


def forecasts(sight: Sight) -> Labelled:
    for name, llm in sight.loaded.items():
        yield from figures(name, forecast_of(llm.plan))


def last_minute(sight: Sight) -> Labelled:
    for meter in sight.meters:
        yield from figures(meter.name, measured(meter, sight.now_s))


def figures(name: str, speeds: Speeds | None) -> Labelled:
    """Those figures that are known."""
    told = {} if speeds is None else speeds.model_dump()
    for figure, value in told.items():
        if value is not None:
            yield (name, figure), value


def errors(sight: Sight) -> Labelled:
    for name, llm in sight.loaded.items():
        was = measured(sight.site.meters[name], sight.now_s)
        for figure, error in plan_errors(forecast_of(llm.plan), was).items():
            yield (name, figure), error


METRICS = (
    gauge(
        "apportion_model_state", "1 at the state that a model is in, 0 at others.", ("model", "state"), states
    ),
    gauge(
        "apportion_model_load_progress_ratio", "How far a model is loaded, 0 to 1.", ("model",), load_progress
    ),
    gauge("apportion_forecast", "What the plan foretells of a model.", ("model", "figure"), forecasts),
    gauge("apportion_measured", "The same, of the last minute.", ("model", "figure"), last_minute),
    gauge(
        "apportion_plan_error_ratio",
        "By how much of it the last minute passed the forecast (above 0) or missed it (below).",
        ("model", "figure"),
        errors,
    ),
)
