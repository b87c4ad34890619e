"""What a model costs, from headers alone: bytes of weights and of KV cache that passes read and write."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from apportion.formats.blocks import load_format
from apportion.formats.checkpoint import TensorInfo
from apportion.kernels.kv import num_blocks_for
from apportion.kernels.kv_codec import BLOCK_TOKENS, HeadLayout
from apportion.kernels.kv_codecs import CODECS, DEFAULT, layer_codecs
from apportion.models.cache import kv_layouts, kv_shapes
from apportion.models.config import ModelConfig
from apportion.models.hot_window import SINK_BLOCKS, WINDOW, num_hot_blocks
from apportion.models.layout import Slot
from apportion.models.recipes import Recipe
from apportion.models.resolve import resolve
from apportion.models.smoothing import MOST_TOKENS

HOT_POSITIONS = SINK_BLOCKS * BLOCK_TOKENS + WINDOW  # that a step sees as they were computed, at least


def kv_bytes_per_token(config: ModelConfig, kv: str = DEFAULT) -> int:
    """Bytes that one more position takes in the KV cache, all layers together, with its scales.

    Args:
        kv: the KV codec, or those of the layers (`kernels.kv_codecs.layer_codecs`).
    """
    return sum(_position_nbytes(config, name) for name in layer_codecs(kv, config.num_layers))


def kv_nbytes(config: ModelConfig, kv: str, positions: int) -> int:
    """Bytes of the KV cache of one sequence that may come to have so many positions: all its blocks, and
    those of the hot pool where the codec keeps sinks and a recent window as they are.
    """
    layouts = kv_layouts(config, kv)
    total = num_blocks_for(positions) * layouts.cold.block_nbytes
    if layouts.hot is not None:
        total += num_hot_blocks(positions) * layouts.hot.block_nbytes
    if layouts.smooth:  # the factors are found before, with a cache of its own
        text = min(MOST_TOKENS, config.context_length)
        total = max(total, kv_nbytes(config, DEFAULT, text))
    return total


def kv_bytes_seen(config: ModelConfig, positions: int, kv: str = DEFAULT) -> int:
    """Bytes of KV cache that a decode step reads when it sees so many positions, its own among them."""
    total = 0
    for name, window in zip(layer_codecs(kv, config.num_layers), config.windows, strict=True):
        seen = min(window, positions) if window else positions
        hot_name = CODECS.get(name).hot
        hot = min(seen, HOT_POSITIONS) if hot_name is not None else 0
        total += (seen - hot) * _position_nbytes(config, name)
        total += hot * _position_nbytes(config, hot_name or name)
    return total


def _position_nbytes(config: ModelConfig, codec: str) -> int:
    """Bytes of a position in one layer."""
    shape = kv_shapes(config)[0]
    page = HeadLayout(CODECS.get(codec), shape.key_width, shape.value_width, shape.joint)
    return shape.num_heads * page.nbytes // BLOCK_TOKENS


def bytes_per_token(config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> int:
    """Bytes of weights in memory that a decode step of one token reads: those of a pass of one token.

    Raises:
        BadFile: the tensors are not those of this configuration.
    """
    return bytes_per_pass(config, tensors, 1)


def bytes_per_pass(config: ModelConfig, tensors: Mapping[str, TensorInfo], tokens: int) -> int:
    """Bytes of weights in memory that one pass of so many tokens reads.

    That is every dense weight and the head, a row of the embedding for each token, and of each stack of
    experts as many as the tokens are routed to, if every expert is as likely as any other.

    Raises:
        BadFile: the tensors are not those of this configuration.
    """
    recipes = resolve(config, tensors).recipes
    head_is_stored = any(slot.name == "output.weight" for slot in recipes)
    total = 0.0
    for slot, recipe in recipes.items():
        nbytes = loaded_nbytes(slot, recipe, tensors)
        if slot.name == "token_embd.weight":
            rows = tokens * (nbytes // config.vocab_size)
            total += rows if head_is_stored else nbytes + rows
        elif config.experts is not None and "_exps." in slot.name:
            idle = 1 - config.experts.routing.top_k / config.experts.num_experts
            total += nbytes * (1 - idle**tokens)
        else:
            total += nbytes
    return round(total)


def loaded_nbytes(slot: Slot, recipe: Recipe, tensors: Mapping[str, TensorInfo]) -> int:
    """Bytes of a canonical tensor once it is in memory."""
    count = int(np.prod(slot.shape))
    if slot.kind == "vector":
        return 4 * count
    target = load_format(recipe.format(tensors))
    return count // target.block_size * target.block_nbytes
