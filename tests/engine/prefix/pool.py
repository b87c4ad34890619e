"""Memory in blocks that checks its callers: nothing is released that nobody holds."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class CheckedPool:
    """`num_blocks` blocks of `nbytes` bytes."""

    def __init__(self, num_blocks: int, nbytes: int = 16) -> None:
        self._memory = np.zeros((num_blocks, nbytes), np.uint8)
        self._references = [0] * num_blocks

    @property
    def num_free(self) -> int:
        return self._references.count(0)

    def take(self) -> int | None:
        if 0 not in self._references:
            return None
        block = self._references.index(0)
        self._references[block] = 1
        return block

    def share(self, block: int) -> None:
        assert self._references[block] > 0
        self._references[block] += 1

    def release(self, block: int) -> None:
        assert self._references[block] > 0
        self._references[block] -= 1
        if not self._references[block]:
            self._memory[block] = 0xEE  # what nobody holds is anybody's

    def references(self, block: int) -> int:
        return self._references[block]

    def view(self, block: int) -> npt.NDArray[np.uint8]:
        return self._memory[block]
