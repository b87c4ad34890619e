"""What requests waited for, and how many of them were served well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from apportion.simulate.serving.replay import Replayed


@dataclass(slots=True)
class Served:
    """A request: when it came, and when its tokens did.

    Attributes:
        longest_gap_s: between two of its tokens, yielding included.
    """

    tenant: str
    arrival_s: float
    num_prompt: int
    first_s: float = 0.0
    last_s: float = 0.0
    num_output: int = 0
    longest_gap_s: float = 0.0

    def token(self, now_s: float) -> None:
        """One more token."""
        if self.num_output:
            self.longest_gap_s = max(self.longest_gap_s, now_s - self.last_s)
        else:
            self.first_s = now_s
        self.last_s = now_s
        self.num_output += 1

    @property
    def ttft_s(self) -> float:
        """From its arrival to the first token, waiting included."""
        return self.first_s - self.arrival_s

    @property
    def tpot_s(self) -> float:
        """Between tokens, on average; 0 where there is only one."""
        return (self.last_s - self.first_s) / max(self.num_output - 1, 1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request that is served well waits for at most (its service level objective)."""

    ttft_s: float
    tpot_s: float

    def met(self, one: Served) -> bool:
        return one.ttft_s <= self.ttft_s and one.tpot_s <= self.tpot_s


def report(replayed: Replayed, limits: Limits) -> dict[str, Any]:
    """A replay's figures: times in seconds at 50, 90 and 99 of 100 requests, rates per second."""
    served = replayed.served
    well = sum(limits.met(one) for one in served)
    seconds = max(replayed.seconds, 1e-9)
    return {
        "requests": len(served),
        "refused": replayed.refused,
        "ttft_s": percentiles([one.ttft_s for one in served]),
        "tpot_s": percentiles([one.tpot_s for one in served if one.num_output > 1]),
        "longest_gap_s": percentiles([one.longest_gap_s for one in served]),
        "well_served": well / max(len(served) + replayed.refused, 1),
        "goodput_per_s": well / seconds,
        "output_tok_s": sum(one.num_output for one in served) / seconds,
        "seconds": replayed.seconds,
        "busy": replayed.busy_s / seconds,
        "steps": replayed.steps,
        "yields": replayed.yields,
        "peak_blocks": replayed.peak_blocks,
        "prompt_tokens": replayed.prompt_tokens,
        "reused_tokens": replayed.reused_tokens,
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """At 50, 90 and 99 of 100; 0 where there are none."""
    found = np.quantile(values, (0.5, 0.9, 0.99)) if values else (0.0, 0.0, 0.0)
    return {name: float(value) for name, value in zip(("p50", "p90", "p99"), found, strict=True)}
