"""Memory in blocks whose content is spoilt when nobody holds it."""

from __future__ import annotations

import numpy as np

from apportion.engine.kv.blocks import BlockPool


class CheckedPool(BlockPool):
    """`num_blocks` blocks of `nbytes` bytes, which gives single blocks."""

    def __init__(self, num_blocks: int, nbytes: int = 16) -> None:
        super().__init__(np.zeros((num_blocks, nbytes), np.uint8))

    def take(self) -> int | None:
        taken = super().take()
        return taken[0] if taken else None

    def release(self, block: int) -> None:
        super().release(block)
        if not self.references(block):
            self.view(block)[:] = 0xEE  # what nobody holds is anybody's
