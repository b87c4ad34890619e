"""How fast the server is: what the plan foretold, and what the last minute was."""

from __future__ import annotations

from collections.abc import Iterable

from apportion.plan import Plan
from apportion.serve.meters import Meter, Sums, Took, percentile
from apportion.serve.schemas.status import Rates, Speeds

MEDIAN, ALMOST_ALL = 0.5, 0.99
NOW_S = 5  # seconds that rates are of, so that curves of them follow what happens


def forecast_of(plan: Plan | None) -> Speeds | None:
    """What a plan foretells; None where there is none."""
    if plan is None:
        return None
    told = plan.forecast
    return Speeds(
        decode_tok_s=told.decode_tok_s.value,
        prefill_tok_s=told.prefill_tok_s.value,
        ttft_s=told.ttft_s.value,
    )


def measured(meter: Meter, now_s: float) -> Speeds:
    """The same figures of a model's last minute. Decode is what each reader saw: where several answers go on
    together, all of them get more.
    """
    sums = meter.sums(now_s)
    return Speeds(
        decode_tok_s=ratio(sums.decode_tokens, sums.token_s),
        prefill_tok_s=ratio(sums.prefill_tokens, sums.prefill_s),
        ttft_s=percentile((took.ttft_s for took in meter.finished.last(now_s)), MEDIAN),
    )


def rates_of(meters: Iterable[Meter], now_s: float) -> Rates:
    """What all models do together: throughput in the last seconds, percentiles of the last minute."""
    sums, finished = Sums(), list[Took]()
    for meter in meters:
        sums.add(meter.sums(now_s, NOW_S))
        finished += meter.finished.last(now_s)
    ttfts = [took.ttft_s for took in finished]
    tpots = [took.tpot_s for took in finished]
    return Rates(
        decode_tok_s=ratio(sums.decode_tokens, sums.decode_s),
        prefill_tok_s=ratio(sums.prefill_tokens, sums.prefill_s),
        disk_read_bytes_s=ratio(sums.nbytes_read, sums.busy_s),
        ttft_p50_s=percentile(ttfts, MEDIAN),
        ttft_p99_s=percentile(ttfts, ALMOST_ALL),
        tpot_p50_s=percentile(tpots, MEDIAN),
        tpot_p99_s=percentile(tpots, ALMOST_ALL),
    )


def plan_errors(forecast: Speeds | None, was: Speeds) -> dict[str, float]:
    """By how much of it the forecast was passed (above 0) or missed; of figures that were measured. Times to
    the first token are not compared: a plan's is for a prompt of its own length.
    """
    if forecast is None:
        return {}
    pairs = {
        "decode_tok_s": (forecast.decode_tok_s, was.decode_tok_s),
        "prefill_tok_s": (forecast.prefill_tok_s, was.prefill_tok_s),
    }
    return {name: real / told - 1 for name, (told, real) in pairs.items() if told and real is not None}


def ratio(amount: float, seconds: float) -> float | None:
    """An amount a second; None of no time."""
    return amount / seconds if seconds > 0 else None
