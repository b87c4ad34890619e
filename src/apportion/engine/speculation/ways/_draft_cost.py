"""What a draft model takes, from its headers, so that a budget can pay for it before anything is loaded."""

from __future__ import annotations

from apportion.core.spacing import spaced
from apportion.formats import open_checkpoint
from apportion.models import config_from_checkpoint
from apportion.models.footprint import kv_nbytes, loaded_nbytes
from apportion.models.resolve import resolve as resolve_tensors
from apportion.plan.estimate import BASE_NBYTES, runtime_nbytes, workspace_of
from apportion.sources import resolve


def draft_nbytes(reference: str, num_positions: int, num_caches: int, tokens_per_pass: int) -> int:
    """Bytes of weights, tokenizer, workspace, and of caches of so many positions each.

    Raises:
        NotFound, SourceError: the reference names nothing that can be had.
        BadFile, Unsupported: the checkpoint cannot be read or run.
    """
    checkpoint = open_checkpoint(resolve(reference).path)
    try:
        config = config_from_checkpoint(checkpoint)
        recipes = resolve_tensors(config, checkpoint.tensors).recipes
        weights = sum(
            spaced(loaded_nbytes(slot, recipe, checkpoint.tensors)) for slot, recipe in recipes.items()
        )
        tokenizer = runtime_nbytes(config, checkpoint.metadata) - BASE_NBYTES
        workspace = workspace_of(config)(tokens_per_pass)
        caches = num_caches * kv_nbytes(config, "f16", min(num_positions, config.context_length))
        return weights + tokenizer + workspace + caches
    finally:
        checkpoint.close()
