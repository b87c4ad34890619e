"""Load orders: in which order the reads of missing experts are issued. One file each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, TypeAlias

from apportion.policies.family import Policy, PolicyFamily

Place: TypeAlias = Callable[[int], tuple[int, int]]


class LoadOrder(Policy):
    """Decides the order of reads."""

    budget: ClassVar[str] = "disk bandwidth"
    as_asked: ClassVar[bool] = False  # `order` changes nothing, and need not be called

    def order(self, misses: Sequence[int], place: Place) -> Sequence[int]:
        """`misses` in the order in which they are to be read.

        Args:
            misses: experts of a layer, each once, in the order in which the step asks for them.
            place: of an expert: the file's number, and the offset at which it begins there.
        """
        raise NotImplementedError


LOAD_ORDERS = PolicyFamily("load order", __name__, LoadOrder, "demand")
