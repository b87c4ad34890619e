"""Expert caches over recorded routes: what would have been a hit.

A step is served as the engine serves it: all of its experts are looked up at once, then each that is missing
takes an empty slot or that of a resident which the step does not need. Caches begin empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apportion.core.errors import UsageError
from apportion.policies.expert_cache import ExpertCache

Ids: TypeAlias = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Replay:
    """What a cache had of the uses.

    Attributes:
        slots: of each layer.
        hits: in each layer.
        uses: in each layer.
    """

    slots: int
    hits: tuple[int, ...]
    uses: int

    @property
    def hit_rate(self) -> float:
        """Of all layers; 0 where nothing was used."""
        return sum(self.hits) / max(self.uses * len(self.hits), 1)


def replay(experts: Ids, num_experts: int, num_slots: int, policy: ExpertCache, skip: int = 0) -> Replay:
    """Serve every token of a trace in turn.

    Args:
        experts: ids [tokens, layers, top_k], each once per token and layer.
        num_slots: of each layer.
        skip: tokens at the front that are served and not counted, while caches fill.

    Raises:
        UsageError: there are fewer slots than experts in a step.
    """
    tokens, layers, top_k = experts.shape
    if num_slots < top_k:
        raise UsageError(
            f"{num_slots} slots cannot serve a step",
            f"a token uses {top_k} experts of a layer at once",
            f"choose {top_k} slots or more",
        )
    hits = [hits_by_step(experts[:, layer], num_experts, num_slots, policy) for layer in range(layers)]
    return Replay(num_slots, tuple(sum(layer[skip:]) for layer in hits), max(tokens - skip, 0) * top_k)


def hits_by_step(routes: Ids, num_experts: int, num_slots: int, policy: ExpertCache) -> list[int]:
    """The hits of each step in one layer, whose steps use `routes` [steps, top_k]."""
    steps: list[list[int]] = routes.tolist()
    state = policy.knowing(steps).state(num_experts, num_slots)
    residents: set[int] = set()
    hits = []
    for experts in steps:
        state.touch(experts)
        missing = [expert for expert in experts if expert not in residents]
        hits.append(len(experts) - len(missing))
        num_leaving = len(residents) + len(missing) - num_slots
        leaving = state.leaving(sorted(residents.difference(experts))) if num_leaving > 0 else ()
        for expert in leaving[:num_leaving]:
            residents.remove(expert)
            state.forget(expert)
        residents.update(missing)
    return hits


def lru_curve(experts: Ids, num_experts: int, skip: int = 0) -> dict[int, float]:
    """Hit rates of LRU by the number of slots, from top_k to all experts, in one pass over the trace.

    Source: R. L. Mattson et al., "Evaluation Techniques for Storage Hierarchies", IBM Systems Journal 9(2),
    1970 (stack distances).
    """
    _, layers, top_k = experts.shape
    counts = np.zeros(num_experts + 1, np.int64)
    for layer in range(layers):
        distances = stack_distances(experts[:, layer].tolist(), num_experts)
        counts += np.bincount(np.ravel(distances[skip:]).astype(np.int64), minlength=num_experts + 1)
    below = np.cumsum(counts) / max(counts.sum(), 1)
    return {slots: float(below[slots - 1]) for slots in range(top_k, num_experts + 1)}


def stack_distances(steps: Iterable[Sequence[int]], num_experts: int) -> list[list[int]]:
    """How many experts were used since each use's last, at its step's beginning; `num_experts` at a first."""
    recent: list[int] = []  # the last used first
    distances = []
    for experts in steps:
        place = {expert: index for index, expert in enumerate(recent)}
        distances.append([place.get(expert, num_experts) for expert in experts])
        for expert in experts:
            place.pop(expert, None)
        recent = [*experts, *place]
    return distances


def repeat_rate(experts: Ids) -> float:
    """The share of uses that the token before had in the same layer, too."""
    layers = (experts[:, layer] for layer in range(experts.shape[1]))
    again = sum(int((ids[1:, :, None] == ids[:-1, None, :]).sum()) for ids in layers)
    return again / max(experts[1:].size, 1)
