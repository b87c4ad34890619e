"""What the prefix index asks of its neighbours: memory that holds blocks, and a store that may keep them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


class Blocks(Protocol):
    """Memory in blocks, each shared by as many as count as its users."""

    def share(self, block: int) -> Any:
        """One more uses it."""

    def keep(self, block: int) -> Any:
        """The same, for the index: what it alone holds is idle."""

    def forget(self, block: int) -> Any:
        """The index gives back its share; a block is free once nobody holds it."""

    def references(self, block: int) -> int:
        """How many use it."""

    def view(self, block: int) -> Bytes:
        """Its content."""


class BlockStore(Protocol):
    """Where blocks go that memory has no room for."""

    def put(
        self,
        key: bytes,
        parent: bytes,
        num_before: int,
        ids: npt.NDArray[np.int32],
        payload: Bytes,
        timeout_s: float = 0.0,
    ) -> bool:
        """Keep a copy, and wait that long for room for it; False when it will not. The payload is the
        caller's again at once.
        """

    def look_up(self, keys: Sequence[bytes]) -> None:
        """`contains` will be asked for these: find out about all of them at once."""

    def contains(self, key: bytes) -> bool:
        """Whether it is there, as far as is known."""
