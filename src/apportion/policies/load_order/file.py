"""By their places in the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apportion.policies.load_order import LoadOrder, Place


@dataclass(frozen=True, slots=True)
class FileOrder(LoadOrder):
    """Reads experts in the order in which they lie in the files.

    Source: the elevator of disk scheduling: P. J. Denning, "Effects of Scheduling on File Memory Operations",
    AFIPS Spring Joint Computer Conference 1967.
    """

    def order(self, misses: Sequence[int], place: Place) -> Sequence[int]:
        return sorted(misses, key=place)


POLICY = FileOrder()
