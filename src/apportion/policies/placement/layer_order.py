"""The first layers stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apportion.core.keys import UnitKey
from apportion.policies.placement import PlacedUnit, Placement, those_that_fit


@dataclass(frozen=True, slots=True)
class LayerOrder(Placement):
    """Keeps units in the order in which a token meets them, as long as there is room.

    Source: Y. Sheng et al., "FlexGen: High-Throughput Generative Inference of Large Language Models with a
    Single GPU", ICML 2023, arXiv:2303.06865 (a fixed share of the weights stays).
    """

    def choose(self, units: Sequence[PlacedUnit], nbytes: int) -> Sequence[UnitKey]:
        return those_that_fit(sorted(units, key=lambda unit: unit.key), nbytes)


POLICY = LayerOrder()
