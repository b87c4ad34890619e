"""Figures of a run: percentiles of what requests waited for, what all got together, and how many were served
well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apportion.bench.load.run import Run
from apportion.bench.load.stream import Seen


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles, interpolated between the two values that lie around them, and the mean of `n` values."""

    p50: float
    p90: float
    p95: float
    p99: float
    mean: float
    max: float
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread | None:
        """None where there are no values."""
        if not values:
            return None
        p50, p90, p95, p99 = np.percentile(values, (50, 90, 95, 99)).tolist()
        return cls(p50, p90, p95, p99, float(np.mean(values)), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Limits:
    """A request that stays within both is served well (its service level objectives)."""

    ttft_s: float
    tpot_s: float

    def met_by(self, one: Seen) -> bool:
        return one.ttft_s <= self.ttft_s and (one.tpot_s or 0.0) <= self.tpot_s


@dataclass(frozen=True, slots=True)
class Figures:
    """What a load got. Only whole answers count for times and tokens.

    Attributes:
        failed: other requests, by kind.
        seconds: from the beginning to the last answer.
        ttft_s: to the first text, from when a request was due.
        tpot_s: time per token after the first, one value for each answer.
        gap_s: from one arrival of text to the next, all answers together.
        goodput_per_s: answers a second that met the limits; `well_served` is their share of all requests.
        late_s: by how much requests were sent after they were due, at most: the generator's own delay.
        generator_us_per_token: processor time of the generator.
    """

    requests: int
    answered: int
    failed: dict[str, int]
    seconds: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    ttft_s: Spread | None
    tpot_s: Spread | None
    gap_s: Spread | None
    e2e_s: Spread | None
    output_tok_s: float
    requests_per_s: float
    goodput_per_s: float
    well_served: float
    late_s: float
    generator_us_per_token: float


def figures(run: Run, limits: Limits) -> Figures:
    """Of a run, by what counts as served well."""
    whole = [one for one in run.seen if not one.failure]
    seconds = max((one.text_s[-1] for one in whole), default=0.0) or run.seconds
    tokens = sum(one.output_tokens for one in whole)
    good = sum(limits.met_by(one) for one in whole)
    return Figures(
        requests=len(run.seen),
        answered=len(whole),
        failed=dict(Counter(one.failure for one in run.seen if one.failure).most_common()),
        seconds=seconds,
        prompt_tokens=sum(one.prompt_tokens for one in whole),
        cached_tokens=sum(one.cached_tokens for one in whole),
        output_tokens=tokens,
        ttft_s=Spread.of([one.ttft_s for one in whole]),
        tpot_s=Spread.of([one.tpot_s for one in whole if one.tpot_s is not None]),
        gap_s=Spread.of([gap for one in whole for gap in one.gaps_s]),
        e2e_s=Spread.of([one.e2e_s for one in whole]),
        output_tok_s=tokens / seconds,
        requests_per_s=len(whole) / seconds,
        goodput_per_s=good / seconds,
        well_served=good / len(run.seen) if run.seen else 0.0,
        late_s=max((one.sent_s - one.due_s for one in run.seen), default=0.0),
        generator_us_per_token=1e6 * run.generator_s / max(tokens, 1),
    )
