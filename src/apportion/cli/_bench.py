"""Measuring under a budget and showing what was measured, for `apportion bench`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from apportion.cli._tables import console, figures
from apportion.core.errors import UsageError

if TYPE_CHECKING:
    from apportion.bench.budgeted import Terms
    from apportion.bench.routes import RoutesReplay
    from apportion.bench.speed import Line, Measurement, Report
    from apportion.engine.loading import LoadedModel
    from apportion.plan import HitRates, Plan


def hit_rates_of(path: Path) -> HitRates:
    """What a plan may expect of caches over recorded routes."""
    from apportion.cli._routes import curve_of, facts_of
    from apportion.formats.routes import RoutesFile
    from apportion.plan import HitRates
    from apportion.plan.curves import Curve
    from apportion.plan.hit_rate import from_curve

    with RoutesFile(path) as routes:
        curve = curve_of(facts_of(routes, skip=0))
    if not curve["hit_rates"] or not curve["hit_rates"][-1]:  # no expert comes twice
        return HitRates(curve["source"], lambda layer, slots, count: 0.0)
    return from_curve(Curve(tuple(curve["fractions"]), tuple(curve["hit_rates"]), curve["source"]))


def terms_of(
    loaded: LoadedModel,
    lines: Sequence[Line],
    repetitions: int,
    warmup: int | None,
    routes: Path | None,
    hits: HitRates | None,
) -> tuple[Plan, Terms]:
    """The plan as it is judged, and how a model with a budget is measured.

    Raises:
        UsageError: a length is beyond the plan's context, or routes cannot be replayed.
    """
    from apportion.bench.budgeted import Terms, forecast_of, tokens_of_routes
    from apportion.bench.traffic import Meter
    from apportion.engine.assembly import tokens_per_pass
    from apportion.engine.budget import profile_for
    from apportion.models.units import model_units

    assert loaded.apportioned is not None
    plan, residency = loaded.apportioned.plan, loaded.apportioned.residency
    longest = max(line.end for line in lines)
    if longest > plan.ctx:
        raise UsageError("a length is beyond the plan's context", tokens=longest, context=plan.ctx)
    config = loaded.model.config
    units = model_units(config, loaded.checkpoint.tensors)
    profile = profile_for(loaded.checkpoint.files[0])
    judged, forecast = forecast_of(plan, config, units, profile, hits)
    replay = None
    if routes is not None:
        replay = replayed(loaded, routes, tokens_of_routes(lines, repetitions, warmup))
    meter = None if residency is None else Meter(residency, units)
    return judged, Terms(judged, tokens_per_pass(loaded, plan.ctx), meter, forecast, replay, warmup)


def replayed(loaded: LoadedModel, path: Path, tokens: int) -> RoutesReplay:
    """Have a model take its routes from a file."""
    from apportion.bench.routes import replay_of
    from apportion.formats.routes import RoutesFile
    from apportion.models.units import model_units

    residency = None if loaded.apportioned is None else loaded.apportioned.residency
    if residency is None:
        raise UsageError(
            "routes cannot be replayed",
            "all weights of the model stay in memory, and whichever experts it chooses cost the same",
            "give a budget that is smaller than the model, as --ram 50%",
        )
    with RoutesFile(path) as routes:
        units = model_units(loaded.model.config, loaded.checkpoint.tensors)
        replay = replay_of(routes, loaded.model.config, units, tokens)
    residency.on_route = replay
    return replay


T = TypeVar("T")
Cell = Callable[["Measurement"], str]


def print_report(name: str, report: Report, plan: Plan | None) -> None:
    columns = columns_of(plan)
    rows = [(one.phase, *(cell(one) for cell in columns.values())) for one in report.results]
    console().print(figures(("phase", *columns), rows, words=("phase",)))
    click.echo(closing(name, report, plan))


def columns_of(plan: Plan | None) -> dict[str, Cell]:
    """Titles, and what stands below them."""
    from apportion.core.units import format_bytes

    lengths: dict[str, Cell] = {
        "tokens": lambda one: str(one.tokens),
        "depth": lambda one: str(one.depth),
        "threads": lambda one: str(one.threads),
        "tok/s": lambda one: f"{one.tok_s.median:.1f}",
    }
    if plan is None:
        return lengths | {
            "min": lambda one: f"{one.tok_s.min:.1f}",
            "max": lambda one: f"{one.tok_s.max:.1f}",
            "a token": lambda one: format_bytes(round(one.bytes_per_token)),
            "of RAM": lambda one: shown(one.bandwidth_share, lambda share: f"{100 * share:.1f}%"),
            "Python": lambda one: f"{one.python_us_per_step:.0f} µs",
        }
    return lengths | {
        "forecast": lambda one: shown(one.forecast_tok_s, lambda forecast: f"{forecast.value:.1f}"),
        "error": lambda one: shown(one.forecast_error, lambda error: f"{100 * error:+.0f}%"),
        "hits": lambda one: shown(one.hit_rate, lambda rates: f"{100 * rates.median:.1f}%"),
        "disk": lambda one: shown(one.disk_bytes_per_token, lambda rates: format_bytes(round(rates.median))),
        "GB/s": lambda one: shown(one.disk_GBps, lambda rates: f"{rates.median:.2f}"),
        "stalled": lambda one: shown(one.stall_share, lambda rates: f"{100 * rates.median:.0f}%"),
        "disk gave": lambda one: shown(one.reading_GBps, lambda rates: f"{rates.median:.2f}"),
        "error then": lambda one: shown(one.given_disk_error, lambda error: f"{100 * error:+.0f}%"),
    }


def shown(value: T | None, words: Callable[[T], str]) -> str:
    return "-" if value is None else words(value)


def closing(name: str, report: Report, plan: Plan | None) -> str:
    """The memory, and what the machine can do."""
    from apportion.core.units import format_bytes

    peak = format_bytes(report.peak_rss_bytes)
    if plan is not None:
        share = report.peak_rss_bytes / plan.ram
        rate = f"hit rate {plan.hit_rate:.1%} ({plan.hit_rate_source})"
        budget = format_bytes(plan.ram)
        return f"{name}: peak memory {peak}, {share:.1%} of {budget}; forecast: {rate}, {plan.forecast.basis}"
    streams = {one.threads: one.bandwidth_gb_s.median for one in report.results if one.bandwidth_gb_s}
    read = ", ".join(f"{rate:.1f} GB/s on {threads}" for threads, rate in sorted(streams.items()))
    return f"{name}: peak memory {peak}; memory streams {read} threads"
