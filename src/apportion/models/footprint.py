"""What a model costs per token, from headers alone: bytes of weights read, bytes of KV cache written."""

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
    if config.latent is not None:
        numbers = config.latent.kv_rank + config.latent.rope_dim
    else:
        numbers = config.k_width + config.v_width
    return config.num_layers * numbers * np.dtype(dtype).itemsize


def bytes_per_token(config: ModelConfig, tensors: Mapping[str, TensorInfo]) -> int:
    """Bytes of weights in memory that a decode step of one token reads.

    That is every dense weight and the head, one row of the embedding, and of each stack of experts as many as
    a token is routed to.

    Raises:
        BadFile: the tensors are not those of this configuration.
    """
    recipes = resolve(config, tensors).recipes
    head_is_stored = any(slot.name == "output.weight" for slot in recipes)
    total = 0.0
    for slot, recipe in recipes.items():
        nbytes = loaded_nbytes(slot, recipe, tensors)
        if slot.name == "token_embd.weight":
            row = nbytes // config.vocab_size
            total += row if head_is_stored else nbytes + row
        elif config.experts is not None and "_exps." in slot.name:
            total += nbytes * config.experts.routing.top_k / config.experts.num_experts
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
