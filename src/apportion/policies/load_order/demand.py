"""As asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from apportion.policies.load_order import LoadOrder, Place


@dataclass(frozen=True, slots=True)
class Demand(LoadOrder):
    """Reads experts in the order in which the step asks for them.

    Source: first come, first served, the control of every comparison.
    """

    as_asked: ClassVar[bool] = True

    def order(self, misses: Sequence[int], place: Place) -> Sequence[int]:
        return misses


POLICY = Demand()
