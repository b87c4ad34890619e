"""The KV cache of one sequence: blocks with keys and values of every position seen so far."""

from __future__ import annotations

import numpy as np

from apportion.core.errors import ContextOverflow, UsageError
from apportion.kernels.kv import KvPool, KvTable, LayerShape, PageLayout, Segment, num_blocks_for, page_layout
from apportion.models.config import ModelConfig

CODECS = {np.dtype(np.float16): "f16", np.dtype(np.float32): "f32"}


def kv_shapes(config: ModelConfig) -> list[LayerShape]:
    """Key-value heads of every layer.

    Latent attention keeps one vector per position (latent, then rotated key part); it starts with its values.
    """
    if config.latent is not None:
        rank = config.latent.kv_rank
        shape = LayerShape(1, rank + config.latent.rope_dim, rank, joint=True)
    else:
        shape = LayerShape(config.num_kv_heads, config.head_dim, config.value_dim)
    return [shape] * config.num_layers


def kv_layout(config: ModelConfig, codec: str = "f16") -> PageLayout:
    """What lies where in a block of this model's keys and values."""
    return page_layout(kv_shapes(config), codec)


class KvCache:
    """Room for `capacity` positions in every layer; `length` of them are filled.

    Memory is touched only where positions are written, so capacity costs nothing until it is used.

    Attributes:
        pool, table: the blocks, and the sequence that they make.
    """

    def __init__(
        self, config: ModelConfig, capacity: int, dtype: np.dtype[np.floating] | type = np.float16
    ) -> None:
        """
        Raises:
            UsageError: the capacity is not positive, or the type is neither float16 nor float32.
        """
        if capacity <= 0:
            raise UsageError("a KV cache needs room for at least one position", capacity=capacity)
        if np.dtype(dtype) not in CODECS:
            raise UsageError("a KV cache holds float16 or float32", dtype=str(np.dtype(dtype)))
        self.capacity = capacity
        self.length = 0
        self.pool = KvPool.of(kv_layout(config, CODECS[np.dtype(dtype)]), num_blocks_for(capacity))
        self.table = KvTable()
        for block in range(self.pool.num_blocks):
            self.table.append(self.pool, block)

    @property
    def nbytes(self) -> int:
        """Bytes at full length."""
        return self.pool.memory.nbytes

    def segment(self, num_tokens: int) -> Segment:
        """So many tokens that follow what is filled."""
        return Segment(self.table, self.length, num_tokens)

    def advance(self, num_positions: int) -> None:
        """Count positions that all layers have written.

        Raises:
            ContextOverflow: there is no room for them.
        """
        self.require_room(num_positions)
        self.length += num_positions

    def require_room(self, num_positions: int) -> None:
        """
        Raises:
            ContextOverflow: there is no room for that many more positions.
        """
        if self.length + num_positions > self.capacity:
            raise ContextOverflow(
                "the text is longer than the context",
                "the KV cache is full",
                "ask for a larger context",
                filled=self.length,
                wanted=num_positions,
                capacity=self.capacity,
            )

    def truncate(self, length: int) -> None:
        """Forget all positions from `length` on."""
        assert 0 <= length <= self.length, (length, self.length)
        self.length = length
