"""How many of the experts that tokens are routed to will be found in their slots, and how that is known."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TypeAlias

from apportion.core.errors import BadFile, UsageError
from apportion.formats.bounded_json import read_json_bounded
from apportion.plan.curves import PUBLISHED, Curve
from apportion.plan.table import CheckedTable

RateOf: TypeAlias = Callable[[int, int, int], float]
MAX_CURVE_NBYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class HitRates:
    """Expected hit rates during decode.

    Args:
        source: where they are known from, for people.
        of: (layer, slots, number of experts) -> share of routed experts that are hits.
    """

    source: str
    of: RateOf

    def rate(self, layer: int, slots: int, num_experts: int) -> float:
        """The rate of one layer: 1 where all its experts have room, 0 where none has."""
        if slots >= num_experts:
            return 1.0
        return min(1.0, max(0.0, self.of(layer, slots, num_experts))) if slots else 0.0


def uniform() -> HitRates:
    """Every expert as likely as any other at every token: no cache can do worse on average than its share of
    the experts, and none can do better.
    """
    return HitRates("uniform routing, the worst case", lambda layer, slots, count: slots / count)


def stated(rate: float) -> HitRates:
    """One rate for all layers that lack room for all their experts.

    Raises:
        UsageError: it is no share.
    """
    if not 0 <= rate <= 1:
        raise UsageError("a hit rate lies between 0 and 1", hint="write 0.85 for 85%", given=rate)
    return HitRates("as stated", lambda layer, slots, count: rate)


def from_curve(curve: Curve) -> HitRates:
    """Rates by a curve over the share of a layer's experts that have room.

    Straight lines join its points, from nothing at no slots. What the curve lacks at full size are the misses
    of its cold start, which a long answer outgrows: rates are taken relative to it.
    """
    fractions, rates = (0.0, *curve.fractions), (0.0, *curve.rates)
    top = rates[-1] if fractions[-1] == 1.0 else 1.0
    return HitRates(
        curve.source,
        lambda layer, slots, count: _interpolated(fractions, rates, slots / count) / top,
    )


def expected(family: str) -> HitRates:
    """What is published for a model family; uniform routing where nothing is."""
    curve = PUBLISHED.get(family)
    return uniform() if curve is None else from_curve(curve)


def read_curve(path: Path) -> HitRates:
    """Rates from a file: one JSON object with `source`, `fractions` (of a layer's experts that have room,
    ascending) and `hit_rates`, one for each, which never fall.

    Raises:
        NotFound, DiskFault: it cannot be read.
        BadFile, LimitExceeded: it is no curve.
    """
    table = CheckedTable(read_json_bounded(path, MAX_CURVE_NBYTES), path.name, kind="curve of hit rates")
    curve = Curve(table.numbers("fractions"), table.numbers("hit_rates"), table.text("source"))
    table.require_empty()
    _check(curve, path.name)
    return from_curve(curve)


def _check(curve: Curve, name: str) -> None:
    fractions, rates = (0.0, *curve.fractions), (0.0, *curve.rates)
    ascending = all(a < b for a, b in pairwise(fractions)) and all(a <= b for a, b in pairwise(rates))
    if len(fractions) != len(rates) or not ascending:
        why = "it needs fractions that ascend, and as many rates that never fall"
    elif not (fractions[-1] <= 1 and 0 < rates[-1] <= 1):
        why = "fractions and rates lie between 0 and 1, and the last rate is above 0"
    else:
        return
    raise BadFile(f"{name} is no curve of hit rates", why)


def _interpolated(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    after = bisect_right(xs, x)
    if after == len(xs):
        return ys[-1]
    share = (x - xs[after - 1]) / (xs[after] - xs[after - 1])
    return ys[after - 1] + share * (ys[after] - ys[after - 1])
