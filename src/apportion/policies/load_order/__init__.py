"""Load orders: in which order the reads of missing experts are issued. One file each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from apportion.policies.family import Policy, PolicyFamily


class LoadOrder(Policy):
    """Decides the order of reads."""

    budget: ClassVar[str] = "disk bandwidth"

    def order(self, misses: Sequence[int], places: Sequence[tuple[int, int]]) -> Sequence[int]:
        """`misses` in the order in which they are to be read.

        Args:
            misses: experts of a layer, each once, in the order in which the step asks for them.
            places: the file's number and the offset at which each of them begins.
        """
        raise NotImplementedError


LOAD_ORDERS = PolicyFamily("load order", __name__, LoadOrder, "demand")
