"""Steps of one size."""

from __future__ import annotations

from dataclasses import dataclass

from apportion.policies.scheduler import Scheduler, SchedulerState
from apportion.policies.scheduler._compose import PieceByPiece, at_least


@dataclass(frozen=True, slots=True)
class SplitFuse(Scheduler):
    """Gives every step the same number of tokens: the decodes, then prompts, of which the last is cut to fit.

    Steps that take equally long make answers flow evenly. DeepSpeed-FastGen takes the size at which the
    accelerator is busy, 768 by default; processors are busy with `tokens` of some 128.

    Source: C. Holmes et al., "DeepSpeed-FastGen: High-throughput Text Generation for LLMs via MII and
    DeepSpeed-Inference", arXiv:2401.08671 (2024).
    """

    tokens: int = 128

    def __post_init__(self) -> None:
        at_least(1, tokens=self.tokens)

    def state(self) -> SchedulerState:
        return PieceByPiece(self.tokens, tile=1)


POLICY = SplitFuse()
