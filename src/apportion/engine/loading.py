"""From a reference to a model that is ready to run, with its tokenizer and chat template."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apportion.core.errors import ApportionError
from apportion.engine.budget import Apportioned, Budget, apportion, refuse_too_small
from apportion.engine.direct import DirectCheckpoint
from apportion.engine.params import GENERATION_CONFIG_KEYS, GGUF_KEYS, SamplingParams, recommended_params
from apportion.engine.stream import Progress
from apportion.formats import open_checkpoint
from apportion.formats.side_files import SideFiles
from apportion.models import config_from_checkpoint, load_model
from apportion.models.smoothing import TEXT
from apportion.models.units import model_units
from apportion.sources import resolve
from apportion.text.chat_template import ChatTemplate, chat_template_from_folder, chat_template_from_gguf
from apportion.text.loading import tokenizer_from_folder, tokenizer_from_gguf
from apportion.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from apportion.formats.checkpoint import Checkpoint
    from apportion.kernels import Ops
    from apportion.kernels.ops import Ints
    from apportion.models import Model

MAX_GENERATION_CONFIG = 1 << 20  # bytes; real ones have a few hundred


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory and what belongs to it.

    Attributes:
        apportioned: the plan in force; None where no budget was stated.
    """

    name: str
    model: Model
    tokenizer: Tokenizer
    template: ChatTemplate | None
    recommended: SamplingParams
    checkpoint: Checkpoint
    apportioned: Apportioned | None = None

    def close(self) -> None:
        """Close the checkpoint's files, and give back what comes and goes."""
        self.checkpoint.close()
        if self.apportioned is not None:
            self.apportioned.close()

    def release(self) -> None:
        """Give back to the budget what the model took, once its memory has gone."""
        if self.apportioned is not None:
            self.apportioned.release()


def load(
    reference: str | Path,
    ops: Ops,
    *,
    budget: Budget | None = None,
    offline: bool = False,
    on_progress: Progress | None = None,
) -> LoadedModel:
    """Resolve, open and load a model. Where loading fails, the budget has everything back.

    Args:
        budget: what the process may take; None loads all weights.

    Raises:
        DoesNotFit: the budget is too small; the error names the smallest that would do.
        NotFound, SourceError: the reference names nothing that can be had.
        BadFile, Unsupported: the checkpoint cannot be read or run.
    """
    pull = partial(on_progress, "pull") if on_progress else None
    loading = partial(on_progress, "load") if on_progress else None
    resolved = resolve(str(reference), offline=offline, on_progress=pull)
    checkpoint = open_checkpoint(resolved.path)
    try:
        if budget is None:
            tokenizer, template, recommended = text_parts(checkpoint)
            apportioned = None
        else:
            config = config_from_checkpoint(checkpoint)
            units = model_units(config, checkpoint.tensors)
            refuse_too_small(checkpoint, config, units, budget, resolved.name)
            tokenizer, template, recommended = text_parts(checkpoint)
            apportioned = apportion(checkpoint, config, units, budget, threads_of(ops), resolved.name)
        model = weights_of(checkpoint, ops, apportioned, loading)
        model.calibration = partial(calibration_ids, tokenizer)
    except BaseException:
        checkpoint.close()
        raise
    return LoadedModel(resolved.name, model, tokenizer, template, recommended, checkpoint, apportioned)


def weights_of(
    checkpoint: Checkpoint,
    ops: Ops,
    apportioned: Apportioned | None,
    on_progress: Callable[[int, int], None] | None,
) -> Model:
    """The model with the weights that stay; under a budget they are read past the page cache."""
    if apportioned is None:
        return load_model(checkpoint, ops, on_progress=on_progress)
    try:
        with DirectCheckpoint(checkpoint, apportioned.ledger) as direct:
            model = load_model(direct, ops, residency=apportioned.residency, on_progress=on_progress)
        apportioned.keep_reserve()
    except BaseException:
        apportioned.close()
        apportioned.release()
        raise
    return model


def calibration_ids(tokenizer: Tokenizer) -> Ints:
    """The text that keys are smoothed by, as the model reads texts."""
    return np.array(tokenizer.encode(TEXT, add_special=True, parse_special=False), np.int32)


def threads_of(ops: Ops) -> int:
    """How many threads compute; the reference has one."""
    return getattr(ops, "threads", 1)


def text_parts(checkpoint: Checkpoint) -> tuple[Tokenizer, ChatTemplate | None, SamplingParams]:
    """Tokenizer, chat template and recommended sampling of a checkpoint."""
    if checkpoint.kind == "gguf":
        values = checkpoint.metadata
        recommended = recommended_params(values, GGUF_KEYS)
        return tokenizer_from_gguf(values), chat_template_from_gguf(values), recommended
    files = checkpoint.side_files
    recommended = recommended_params(generation_config(files), GENERATION_CONFIG_KEYS)
    return tokenizer_from_folder(files), chat_template_from_folder(files), recommended


def generation_config(files: SideFiles) -> dict[str, Any]:
    """What `generation_config.json` says; empty if there is none that can be read."""
    try:
        values = json.loads(files.read("generation_config.json", MAX_GENERATION_CONFIG))
    except (ApportionError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
