"""Blocks that were taken and are not safe yet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(slots=True, eq=False)
class Pending:
    """A block in the queue: its payload lies in a staging slot, behind room for the header."""

    key: bytes
    parent: bytes
    num_before: int
    ids: npt.NDArray[np.int32]
    slot: int
    is_safe: bool = False
