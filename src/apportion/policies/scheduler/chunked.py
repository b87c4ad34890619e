"""Decodes first, prompts in pieces beside them."""

from __future__ import annotations

from dataclasses import dataclass

from apportion.policies.scheduler import Scheduler, SchedulerState
from apportion.policies.scheduler._compose import PieceByPiece, at_least


@dataclass(frozen=True, slots=True)
class Chunked(Scheduler):
    """Decodes everyone in every step and reads prompts in pieces beside them, `tokens` a step at most.

    A piece ends where a block of keys and values does (`tile`), so that it can be shared at once. The paper
    gives a step 512 tokens where answers must flow and 2048 where they need not, on accelerators; processors
    take as long for some 128, and for `alone` of 512 while no answer flows.

    Source: A. Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference with Sarathi-Serve", OSDI
    2024, arXiv:2403.02310.
    """

    tokens: int = 128
    tile: int = 32
    alone: int = 512

    def __post_init__(self) -> None:
        at_least(1, tokens=self.tokens, tile=self.tile, alone=self.alone)

    def state(self) -> SchedulerState:
        return PieceByPiece(self.tokens, self.tile, self.alone)


POLICY = Chunked()
