"""The KV cache of one sequence: per layer, keys and values side by side for every position seen so far."""

from __future__ import annotations

import numpy as np

from apportion.core.errors import ContextOverflow, UsageError
from apportion.kernels.memory import KvMemory
from apportion.kernels.ops import Cache
from apportion.models.config import ModelConfig

CACHE_TYPES = (np.dtype(np.float16), np.dtype(np.float32))


class KvCache:
    """Room for `capacity` positions in every layer; `length` of them are filled.

    Memory is touched only where positions are written, so capacity costs nothing until it is used. Latent
    attention keeps one vector per position (latent, then rotated key part); its values are a view of it.

    Attributes:
        keys, values: per layer [G, C, D] and [G, C, Dv].
        memory: the same, as forward passes take them.
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
        if np.dtype(dtype) not in CACHE_TYPES:
            raise UsageError("a KV cache holds float16 or float32", dtype=str(np.dtype(dtype)))
        self.capacity = capacity
        self.length = 0
        self.keys: list[Cache] = []
        self.values: list[Cache] = []
        # np.zeros asks for pages that the kernel fills with zeros on first touch.
        for _ in range(config.num_layers):
            if config.latent is not None:
                rank = config.latent.kv_rank
                joint = np.zeros((1, capacity, rank + config.latent.rope_dim), dtype=dtype)
                self.keys.append(joint)
                self.values.append(joint[:, :, :rank])
            else:
                self.keys.append(np.zeros((config.num_kv_heads, capacity, config.head_dim), dtype=dtype))
                self.values.append(np.zeros((config.num_kv_heads, capacity, config.value_dim), dtype=dtype))
        self.memory = KvMemory(self.keys, self.values)

    @property
    def nbytes(self) -> int:
        """Bytes at full length."""
        owned = [array for array in (*self.keys, *self.values) if array.base is None]
        return sum(array.nbytes for array in owned)

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
