"""The KV cache of one sequence: blocks with keys and values of every position seen so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apportion.core.errors import ContextOverflow, UsageError
from apportion.formats.block import Floats
from apportion.kernels.kv import KvPool, KvTable, LayerShape, PageLayout, Segment, num_blocks_for, page_layout
from apportion.kernels.kv_codecs import CODECS, DEFAULT, layer_codecs
from apportion.models.config import ModelConfig
from apportion.models.hot_window import AT_ONCE, HotPool, HotWindow, num_hot_blocks


def kv_shapes(config: ModelConfig) -> list[LayerShape]:
    """Key-value heads of every layer.

    Latent attention keeps one vector per position (latent, then rotated key part), which starts with its
    values.
    """
    if config.latent is not None:
        rank = config.latent.kv_rank
        shape = LayerShape(1, rank + config.latent.rope_dim, rank, joint=True)
    else:
        shape = LayerShape(config.num_kv_heads, config.head_dim, config.value_dim)
    return [shape] * config.num_layers


def kv_layout(config: ModelConfig, kv: str = DEFAULT) -> PageLayout:
    """What lies where in a block of this model's keys and values.

    Args:
        kv: the KV codec, or those of the layers (`kernels.kv_codecs.layer_codecs`).
    """
    return kv_layouts(config, kv).cold


@dataclass(frozen=True, slots=True)
class KvLayouts:
    """What lies where in the blocks of a sequence.

    Attributes:
        cold: of blocks in the codecs that were asked for.
        hot: of the sinks and the recent window; None where these are no different.
        smooth: whether keys are smoothed.
    """

    cold: PageLayout
    hot: PageLayout | None
    smooth: bool


def kv_layouts(config: ModelConfig, kv: str = DEFAULT) -> KvLayouts:
    """Both layouts; `kv` as in `kv_layout`.

    Raises:
        NotFound: there is no such codec.
        UsageError: the words are not for as many layers as there are, or name codecs with smoothing beside
            others without.
    """
    names = layer_codecs(kv, config.num_layers)
    codecs = [CODECS.get(name) for name in names]
    if len({codec.smooth for codec in codecs}) > 1:
        raise UsageError("keys are smoothed in all layers or in none", kv=kv)
    shapes = kv_shapes(config)
    hot = [codec.hot or name for codec, name in zip(codecs, names, strict=True)]
    return KvLayouts(
        page_layout(shapes, names),
        page_layout(shapes, hot) if any(codec.hot for codec in codecs) else None,
        codecs[0].smooth,
    )


class KvCache:
    """Room for `capacity` positions in every layer; `length` of them are filled.

    Memory is touched only where positions are written, so capacity costs nothing until it is used.

    Attributes:
        pool, table: the blocks, and the sequence that they make.
        hot_pool: blocks for what is kept as it was computed; None where the codec has no such window.
    """

    def __init__(
        self, config: ModelConfig, capacity: int, kv: str = DEFAULT, smoothing: Sequence[Floats] = ()
    ) -> None:
        """
        Args:
            kv: as in `kv_layout`.
            smoothing: factors of the keys, as in `KvPool`.

        Raises:
            NotFound: there is no such codec.
            UsageError: the capacity is not positive, or the codecs do not fit the layers.
        """
        if capacity <= 0:
            raise UsageError("a KV cache needs room for at least one position", capacity=capacity)
        self.capacity = capacity
        self.length = 0
        layouts = kv_layouts(config, kv)
        self.pool = KvPool.of(layouts.cold, num_blocks_for(capacity), smoothing)
        self.table = KvTable()
        for block in range(self.pool.num_blocks):
            self.table.append(self.pool, block)
        self.hot_pool: KvPool | None = None
        self._window: HotWindow | None = None
        if layouts.hot is not None:
            self.hot_pool = KvPool.of(layouts.hot, num_hot_blocks(capacity), smoothing)
            self._window = HotWindow(self.table, HotPool(self.hot_pool))

    @property
    def nbytes(self) -> int:
        """Bytes at full length."""
        return self.pool.memory.nbytes + (0 if self.hot_pool is None else self.hot_pool.memory.nbytes)

    @property
    def tokens_at_once(self) -> int | None:
        """Of a pass of more tokens, the first ones would become codes at once; None: any number is alike."""
        return None if self._window is None else AT_ONCE

    def segment(self, num_tokens: int) -> Segment:
        """So many tokens that follow what is filled."""
        if self._window is not None:
            self._window.prepare(self.length, num_tokens)
        return Segment(self.table, self.length, num_tokens)

    def advance(self, num_positions: int) -> None:
        """Count positions that all layers have written.

        Raises:
            ContextOverflow: there is no room for them.
        """
        self.require_room(num_positions)
        self.length += num_positions
        if self._window is not None:
            self._window.settle(self.length - num_positions, self.length)

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
        if self._window is not None:
            self._window.truncate(length)
