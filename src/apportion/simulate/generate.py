"""Routes that a model could have chosen, made so that an LRU cache has stated hit rates on them.

At each step a layer's experts are drawn by how recently they were used: the expert at place p of the list of
last uses (0: used last) is among the chosen ones with the probability that the curve gives to p. An LRU cache
of n slots holds the places below n, so that its hit rate is the curve's at n. Which experts are drawn
together is left to chance: systematic sampling (Madow, 1949) over the places in random order draws each with
just its probability, and none twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from apportion.core.errors import UsageError

ONE = 1 << 20  # a probability of 1; whole numbers, so that draws are exact


@dataclass(frozen=True, slots=True)
class LruCurve:
    """Hit rates of an LRU cache.

    Attributes:
        points: (share of a layer's experts that has a slot, hit rate), both rising; straight lines between
            them, from (0, 0) to (1, 1). Without points, routes are uniform.
    """

    points: tuple[tuple[float, float], ...] = ()

    @classmethod
    def parse(cls, text: str) -> LruCurve:
        """The curve that `0.25:0.5,0.5:0.8` describes.

        Raises:
            UsageError: it is none.
        """
        try:
            points = [tuple(float(word) for word in pair.split(":")) for pair in text.split(",")]
            return cls(tuple((share, rate) for share, rate in points))
        except ValueError:
            what = f"not a curve: {text[:80]!r}"
            raise UsageError(what, hint="write SHARE:HITRATE pairs such as 0.25:0.5,0.5:0.8") from None

    def __post_init__(self) -> None:
        for (share, rate), (next_share, next_rate) in pairwise(((0.0, 0.0), *self.points)):
            if not (share < next_share < 1 and rate <= next_rate <= 1):
                raise UsageError(
                    "the points of a curve must rise",
                    "shares of the experts lie above 0 and below 1, hit rates within 0 and 1",
                    "with all experts resident everything hits: leave the point of share 1 out",
                    point=f"{next_share}:{next_rate}",
                )

    def expected_hits(self, num_experts: int, top_k: int) -> NDArray[np.int64]:
        """How many of a step's `top_k` experts are among the n used last, for n = 0..num_experts, times ONE.

        Raises:
            UsageError: no routes have this curve at so many experts.
        """
        nodes = [(0, 0)]
        for share, rate in (*self.points, (1.0, 1.0)):
            slots, hits = round(share * num_experts), round(top_k * rate * ONE)
            before, hits_before = nodes[-1]
            if slots == before:
                raise UsageError("two points of the curve fall on the same number of slots", slots=slots)
            if slots < top_k:
                raise _impossible("a cache has a slot for each expert of a step", slots, rate, top_k)
            most = hits_before + (slots - before) * ONE
            if hits > most + 1:  # 1: rounded
                raise _impossible(
                    f"slots {before + 1} to {slots} cannot have so many hits", slots, rate, top_k
                )
            nodes.append((slots, min(hits, most)))
        hits_at = np.zeros(num_experts + 1, np.int64)
        for (low, hits_low), (high, hits_high) in pairwise(nodes):
            places = np.arange(high - low + 1)
            hits_at[low : high + 1] = hits_low + (hits_high - hits_low) * places // (high - low)
        return hits_at


def _impossible(why: str, slots: int, rate: float, top_k: int) -> UsageError:
    return UsageError(
        "no routes have this curve", why, "choose a flatter curve", slots=slots, hit_rate=rate, top_k=top_k
    )


def generate_routes(
    curve: LruCurve, num_layers: int, num_experts: int, top_k: int, seed: int = 0
) -> Iterator[NDArray[np.int64]]:
    """Routes of one token after the other without end: expert ids [layers, top_k]; the first counts
    as used last.

    Raises:
        UsageError: no routes have this curve, or there are fewer experts than a step uses.
    """
    if not 1 <= top_k <= num_experts:
        raise UsageError("a step uses 1 expert to all of them", experts=num_experts, top_k=top_k)
    return _draw(curve.expected_hits(num_experts, top_k), num_layers, top_k, np.random.default_rng(seed))


def _draw(
    expected_hits: NDArray[np.int64], num_layers: int, top_k: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    weights = np.diff(expected_hits)  # of each place, at most ONE
    size = (num_layers, len(weights))
    recent = rng.random(size).argsort(axis=-1)  # experts, the one used last first
    while True:
        order = rng.random(size).argsort(axis=-1)
        start = rng.integers(1, ONE, size=(num_layers, 1), endpoint=True)
        # Marks stand at start, start + ONE, ...: a place is chosen if one lies on its stretch.
        marks = (weights[order].cumsum(axis=-1) - start) // ONE
        chosen = np.empty(size, np.bool_)
        np.put_along_axis(chosen, order, np.diff(marks, axis=-1, prepend=-1) > 0, axis=-1)
        recent = np.take_along_axis(recent, np.argsort(~chosen, axis=-1, kind="stable"), axis=-1)
        yield recent[:, :top_k]
