"""What a model costs, from headers alone: bytes of weights and of KV cache that passes read and write."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

from apportion.formats.blocks import load_format
from apportion.formats.checkpoint import TensorInfo
from apportion.models.config import ModelConfig
from apportion.models.layout import Slot
from apportion.models.recipes import Recipe
from apportion.models.resolve import resolve


def kv_bytes_per_token(config: ModelConfig, dtype: DTypeLike = np.float16) -> int:
    """Bytes that one position takes in the KV cache, all layers together."""
    return config.num_layers * _layer_kv_bytes(config, dtype)


def kv_bytes_seen(config: ModelConfig, positions: int, dtype: DTypeLike = np.float16) -> int:
    """Bytes of KV cache that a decode step reads when it sees so many positions, its own among them."""
    seen = sum(min(window, positions) if window else positions for window in config.windows)
    return seen * _layer_kv_bytes(config, dtype)


def _layer_kv_bytes(config: ModelConfig, dtype: DTypeLike) -> int:
    if config.latent is not None:
        numbers = config.latent.kv_rank + config.latent.rope_dim
    else:
        numbers = config.k_width + config.v_width
    return numbers * np.dtype(dtype).itemsize


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
