"""Prefill and decode speed under a budget, beside what the plan said.

One line after the other, each after runs of its own that do not count: a prompt leaves other experts in their
slots than an answer does, and a hit rate belongs to a steady state. Nothing is measured that would itself
take more memory than the budget has.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from apportion.bench.limits import Rates
from apportion.bench.routes import RoutesReplay
from apportion.bench.speed import Line, Measurement, Report, Samples, filled_cache, run_once
from apportion.bench.traffic import Meter, Traffic, rates_of
from apportion.core.claim import Kind
from apportion.core.resident import peak_rss_bytes
from apportion.plan import Estimate, Plan, Planner
from apportion.plan.adopt import adopted

if TYPE_CHECKING:
    from apportion.hardware.profile import Profile
    from apportion.models import KvCache, Model
    from apportion.models.config import ModelConfig
    from apportion.models.units import ModelUnits
    from apportion.plan.hit_rate import HitRates


class LineForecast(Protocol):
    """What a plan says of a line."""

    def __call__(self, line: Line, disk_rate: float | None = None) -> Estimate:
        """
        Args:
            disk_rate: bytes that the disk gives in a second, in place of what the profile says.
        """
        ...


@dataclass(frozen=True, slots=True)
class Terms:
    """What a budget means for measuring.

    Args:
        plan: in force, with the forecast that is judged.
        tokens_per_pass: the most of a prompt that pass at once.
        meter: of what moves; None where all weights stay in memory.
        forecast: what the plan says of a line.
        routes: replayed in place of the router's.
        warmup: tokens that are written uncounted before decode is measured; None for as many as a line has,
            0 for none, and no uncounted prompt either.
    """

    plan: Plan
    tokens_per_pass: int
    meter: Meter | None
    forecast: LineForecast
    routes: RoutesReplay | None = None
    warmup: int | None = None


def tokens_of_routes(lines: Sequence[Line], repetitions: int, warmup: int | None) -> int:
    """How many tokens of a routes file a measurement replays at most."""
    answers = [line.tokens for line in lines if line.phase == "decode"]
    uncounted = sum(answers) if warmup is None else warmup * len(answers)
    return max([repetitions * sum(answers) + uncounted, *(line.tokens for line in lines)])


def forecast_of(
    plan: Plan, config: ModelConfig, units: ModelUnits, profile: Profile | None, hits: HitRates | None
) -> tuple[Plan, LineForecast]:
    """A plan's words for lines of any length: the plan with these hit rates, and what it says of a line.

    Args:
        profile: of the machine; None reckons with assumed rates.
        hits: None takes what is published for the family.
    """

    def told(threads: int, tokens: int, disk_rate: float | None = None) -> Plan:
        asked = replace(plan, threads=threads, forecast=replace(plan.forecast, prompt_tokens=tokens))
        runtime = plan.nbytes[Kind.RUNTIME]
        planner = Planner(
            config, units, runtime, threads, profile=profile, hit_rates=hits, disk_rate=disk_rate
        )
        return adopted(asked, planner)

    def forecast(line: Line, disk_rate: float | None = None) -> Estimate:
        if line.phase == "prefill":
            return told(line.threads, line.tokens, disk_rate).forecast.prefill_tok_s
        return told(line.threads, line.depth + (line.tokens + 1) // 2, disk_rate).forecast.decode_tok_s

    return told(plan.threads, plan.forecast.prompt_tokens), forecast


def measure_budgeted(
    model_of: Callable[[int], Model],
    lines: Sequence[Line],
    repetitions: int,
    bytes_of: Callable[[Line], float],
    terms: Terms,
    on_run: Callable[[int, int, str], None] | None = None,
) -> Report:
    """Time every line; the arguments are those of `speed.measure`."""
    models = {threads: model_of(threads) for threads in sorted({line.threads for line in lines})}
    capacity = max(line.end for line in lines)
    cache = filled_cache(models[lines[0].threads], capacity, terms.plan.kv)
    uncounted = {line: list(warmups(line, terms.warmup)) for line in lines}
    total = sum(repetitions + len(runs) for runs in uncounted.values())
    results, done = [], 0
    for line in lines:
        samples, traffic = Samples(), Traffic()
        for turn, run in enumerate([*uncounted[line], *[line] * repetitions]):
            counts = turn >= len(uncounted[line])
            into = (samples, traffic) if counts else (Samples(), Traffic())
            run_metered(models[line.threads], cache, run, terms, *into, seed=turn)
            done += 1
            if on_run:
                remark = f"{line.phase} {line.tokens}, {line.threads} threads: {into[0].tok_s[-1]:.1f} tok/s"
                on_run(done, total, remark)
        results.append(summary(line, samples, traffic, bytes_of(line), terms.forecast))
    return Report(results, peak_rss_bytes())


def warmups(line: Line, warmup: int | None) -> Iterator[Line]:
    """The runs of a line that do not count."""
    if line.phase == "prefill":
        if warmup != 0:
            yield line
        return
    left = line.tokens if warmup is None else warmup
    while left > 0:
        yield replace(line, tokens=min(left, line.tokens))
        left -= line.tokens


def run_metered(
    model: Model, cache: KvCache, line: Line, terms: Terms, samples: Samples, traffic: Traffic, seed: int
) -> None:
    """Run a line once, with tokens that other seeds do not have."""
    if terms.routes is not None:
        terms.routes.begin(line.phase)
    if terms.meter is None:
        run_once(model, cache, line, samples, terms.tokens_per_pass, seed)
        return
    before = terms.meter.read()
    run_once(model, cache, line, samples, terms.tokens_per_pass, seed)
    grown = terms.meter.read() - before
    seconds = line.tokens / samples.tok_s[-1]
    experts = terms.meter.experts_per_token if line.phase == "decode" else None
    traffic.add(grown, line.tokens, seconds, experts)


def summary(
    line: Line, samples: Samples, traffic: Traffic, bytes_per_token: float, forecast: LineForecast
) -> Measurement:
    """What stands in the report for a line."""
    tok_s, reading = Rates.of(samples.tok_s), rates_of(traffic.reading_GBps)
    foretold = forecast(line)
    given_disk = None if reading is None else forecast(line, 1e9 * reading.median)
    return Measurement(
        line.phase,
        line.tokens,
        line.depth,
        line.threads,
        tok_s,
        bytes_per_token,
        bandwidth_gb_s=None,
        bandwidth_share=None,
        python_us_per_step=statistics.median(samples.python_us),
        hit_rate=rates_of(traffic.hit_rate),
        disk_bytes_per_token=rates_of(traffic.disk_bytes_per_token),
        disk_GBps=rates_of(traffic.disk_GBps),
        stall_share=rates_of(traffic.stall_share),
        reading_GBps=reading,
        forecast_tok_s=foretold,
        forecast_error=foretold.value / tok_s.median - 1,
        given_disk_tok_s=given_disk,
        given_disk_error=None if given_disk is None else given_disk.value / tok_s.median - 1,
    )
