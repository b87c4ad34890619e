"""What it would take to have it again, per byte, and how likely that is to be wanted."""

from __future__ import annotations

from dataclasses import dataclass

from apportion.core.errors import UsageError
from apportion.policies.retention import KeptView, Retention, RetentionState


@dataclass(frozen=True, slots=True)
class CostAware(Retention):
    """Gives up the block that saves the least work per byte: the time to compute it again, or to read it
    back, for each use so far, fading with the time since the last one (to a half in `fade_s`).

    Source: LMCache's cost-aware eviction (arXiv:2510.09665), whose score is recomputing by size and age; the
    weight of uses: P. Cao, S. Irani, "Cost-Aware WWW Proxy Caching Algorithms", USITS 1997.
    """

    fade_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.fade_s > 0:
            raise UsageError("fade_s is more than 0 seconds", fade_s=self.fade_s)

    def state(self) -> RetentionState:
        return CostAwareState(self.fade_s)


class CostAwareState(RetentionState):
    """Nothing: what it goes by is told with the block."""

    def __init__(self, fade_s: float) -> None:
        self._fade_s = fade_s

    def worth(self, kept: KeptView, now_s: float) -> float:
        again_s = kept.recompute_s
        if kept.reload_s is not None:
            again_s = min(again_s, kept.reload_s)
        age_s = max(now_s - kept.last_use_s, 0.0)
        return kept.num_uses * again_s / kept.nbytes / (1 + age_s / self._fade_s)


POLICY = CostAware()
