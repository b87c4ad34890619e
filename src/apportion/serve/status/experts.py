"""Which experts are in memory, and how often each was wanted."""

from __future__ import annotations

from apportion.engine import LLM
from apportion.serve.schemas.status import ExpertMap, Experts


def experts_of(llm: LLM) -> Experts | None:
    """Experts that come and go, in numbers; None where none do."""
    residency = llm.residency
    if residency is None or not (uses := residency.expert_uses()):
        return None
    counters = residency.counters
    return Experts(
        layers=len(uses),
        experts=len(next(iter(uses.values())).hits),
        slots=residency.num_slots,
        hits=counters.hits + counters.prefill_hits,
        misses=counters.misses + counters.prefill_misses,
        resident=sum(map(len, residency.resident_experts().values())),
    )


def expert_map(name: str, llm: LLM | None) -> ExpertMap:
    """The same layer by layer, one number for each expert; empty where all weights stay in memory."""
    residency = None if llm is None else llm.residency
    uses = {} if residency is None else residency.expert_uses()
    present = {} if residency is None else residency.resident_experts()
    num_experts = max((len(layer.hits) for layer in uses.values()), default=0)

    def flags(layer: int) -> list[int]:
        here = set(present[layer])
        return [int(expert in here) for expert in range(num_experts)]

    return ExpertMap(
        model=name,
        layers=len(uses),
        experts=num_experts,
        numbers=list(uses),
        resident=[flags(layer) for layer in uses],
        hits=[list(layer.hits) for layer in uses.values()],
        misses=[list(layer.misses) for layer in uses.values()],
    )
