"""From an opened checkpoint to a model in memory that we own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from apportion.formats.block import BlockFormat, Floats
from apportion.formats.blocks import load_as
from apportion.formats.checkpoint import Checkpoint
from apportion.kernels.memory import Region
from apportion.kernels.ops import Ops
from apportion.kernels.residency import Residency
from apportion.kernels.weight import Weight
from apportion.models.config import ModelConfig
from apportion.models.family import FAMILIES, family_of, text_config
from apportion.models.layout import Slot, is_expert_matrix, layer_of
from apportion.models.model import Model
from apportion.models.read_gguf import read_gguf
from apportion.models.read_hf import read_hf
from apportion.models.recipes import Reader, Recipe
from apportion.models.resolve import resolve
from apportion.models.weights import Tensors, assemble

OnProgress = Callable[[int, int], None]


def config_from_checkpoint(checkpoint: Checkpoint) -> ModelConfig:
    """A checkpoint's configuration, from its headers only.

    Raises:
        BadFile: it contradicts itself or lacks something.
        Unsupported: no family knows it, or it asks for what its family does not have.
    """
    name = family_of(checkpoint)
    family = FAMILIES.get(name)
    if checkpoint.kind == "gguf":
        return read_gguf(name, family, checkpoint.metadata, checkpoint.tensors)
    return read_hf(name, family, text_config(checkpoint.metadata))


def load_model(
    checkpoint: Checkpoint,
    ops: Ops,
    *,
    residency: Residency | None = None,
    on_progress: OnProgress | None = None,
) -> Model:
    """Read the weights that stay in memory into one region that is ours.

    Args:
        checkpoint: opened; it can be closed afterwards.
        ops: what the model computes with.
        residency: has the places of the weights that come and go; None where all stay.
        on_progress: called with bytes done and bytes in all.

    Raises:
        BadFile: a tensor is missing or has the wrong shape, or the configuration is broken.
        Unsupported: no family knows the checkpoint.
        Truncated, DiskFault: reading failed.
    """
    config = config_from_checkpoint(checkpoint)
    resolution = resolve(config, checkpoint.tensors)
    elsewhere = _elsewhere(resolution.recipes, checkpoint, residency)
    recipes = {slot: recipe for slot, recipe in resolution.recipes.items() if slot.name not in elsewhere}
    formats = {slot: recipe.format(checkpoint.tensors) for slot, recipe in recipes.items()}
    progress = _Progress(sum(stored_nbytes(slot, formats[slot]) for slot in recipes), on_progress)
    reader = Reader(checkpoint, progress.add)
    looked_up, head = looked_up_only(resolution.recipes), head_of(resolution.recipes)
    region = Region(sum(Region.room(kept_nbytes(slot, formats[slot])) for slot in recipes))
    matrices: dict[str, Weight] = dict(elsewhere)
    vectors: dict[str, Floats] = {}
    for slot, recipe in recipes.items():
        progress.begin(stored_nbytes(slot, formats[slot]))
        if slot.kind == "vector":
            vectors[slot.name] = _load_vector(slot, recipe, reader, region)
        else:
            weight = _load_matrix(slot, recipe, reader, region)
            as_it_lies = slot.name == looked_up and not weight.interleaved
            prepare = ops.prepare_head if slot.name == head else ops.prepare
            matrices[slot.name] = weight if as_it_lies else prepare(weight)
        progress.finish()
    notes = (*resolution.notes, *_decoding_notes(recipes, checkpoint))
    weights = assemble(config, Tensors(matrices, vectors), residency)
    return Model(config, weights, ops, notes, residency)


def _elsewhere(
    recipes: Mapping[Slot, Recipe], checkpoint: Checkpoint, residency: Residency | None
) -> dict[str, Weight]:
    """The matrices that come and go, by name: their places, or only what they are where they have none."""
    found: dict[str, Weight] = {}
    if residency is None:
        return found
    for slot, recipe in recipes.items():
        layer, local = layer_of(slot.name)
        if layer is None:
            away = slot.name == "token_embd.weight" and residency.reads_embedding
        elif is_expert_matrix(local):
            away = residency.expert_table(layer) is not None
        else:
            places = residency.dense_weights(layer)
            away = False
            if places is not None and local in places:
                found[slot.name] = places[local]
        if away:
            found[slot.name] = Weight(recipe.format(checkpoint.tensors), slot.shape, np.empty(0, np.uint8))
    return found


def head_of(slots: Iterable[Slot]) -> str:
    """The name of the matrix that gives logits."""
    return "output.weight" if any(slot.name == "output.weight" for slot in slots) else "token_embd.weight"


def looked_up_only(slots: Iterable[Slot]) -> str:
    """The name of the embedding where it is not the head too: its rows are looked up one by one, and nothing
    is multiplied with it. Else empty.
    """
    return "" if head_of(slots) == "token_embd.weight" else "token_embd.weight"


def stored_nbytes(slot: Slot, block_format: BlockFormat) -> int:
    """Bytes of a canonical tensor in this format."""
    return int(np.prod(slot.shape)) // block_format.block_size * block_format.block_nbytes


def kept_nbytes(slot: Slot, stored_format: BlockFormat) -> int:
    """Bytes in memory of a canonical tensor that is stored in this format."""
    if slot.kind == "vector":
        return 4 * int(np.prod(slot.shape))
    return stored_nbytes(slot, load_as(stored_format).kept)


def _load_vector(slot: Slot, recipe: Recipe, reader: Reader, region: Region) -> Floats:
    block_format = recipe.format(reader.tensors)
    stored = np.empty(stored_nbytes(slot, block_format), dtype=np.uint8)
    recipe.fill(reader, stored)
    values = region.take(kept_nbytes(slot, block_format)).view(np.float32).reshape(slot.shape)
    values[:] = block_format.dequantize(stored).reshape(slot.shape)
    return values


def _load_matrix(slot: Slot, recipe: Recipe, reader: Reader, region: Region) -> Weight:
    stored_format = recipe.format(reader.tensors)
    load = load_as(stored_format)
    kept = region.take(kept_nbytes(slot, stored_format))
    rows = kept.reshape(*slot.shape[:-1], -1)
    if load.kept is stored_format:
        recipe.fill(reader, kept)
    else:
        stored = np.empty(stored_nbytes(slot, stored_format), dtype=np.uint8)
        recipe.fill(reader, stored)
        load.rows_into(stored.reshape(*slot.shape[:-1], -1), rows)
    interleaved = any(reader.tensors[name].interleaved for name in recipe.sources)
    return Weight(load.kept, slot.shape, rows, interleaved)


def _decoding_notes(recipes: Mapping[Slot, Recipe], checkpoint: Checkpoint) -> list[str]:
    """One line per stored format that is kept as another one, with what that costs."""
    loads = (
        load_as(recipe.format(checkpoint.tensors))
        for slot, recipe in recipes.items()
        if slot.kind == "matrix"
    )
    return list(dict.fromkeys(load.note for load in loads if load.note))


class _Progress:
    """Bytes done of all, tensor by tensor; a tensor never counts for more than its size."""

    def __init__(self, total: int, on_progress: OnProgress | None) -> None:
        self._total = total
        self._on_progress = on_progress
        self._before = 0
        self._size = 0
        self._done = 0

    def begin(self, size: int) -> None:
        self._size, self._done = size, 0

    def add(self, nbytes: int) -> None:
        self._done = min(self._size, self._done + nbytes)
        self._report()

    def finish(self) -> None:
        self._before += self._size
        self._size = self._done = 0
        self._report()

    def _report(self) -> None:
        if self._on_progress is not None:
            self._on_progress(self._before + self._done, self._total)
