from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import IN_GGUF, tiny_gguf

from apportion.core import spacing
from apportion.formats.block import Bytes
from apportion.formats.blocks import format_by_name
from apportion.formats.gguf import GgufCheckpoint, open_gguf
from apportion.models import config_from_checkpoint
from apportion.models.recipes import Reader
from apportion.models.resolve import resolve
from apportion.models.units import ModelUnits, Unit, model_units


def members(checkpoint: GgufCheckpoint, unit: Unit, prefix: str) -> Iterator[tuple[str, Bytes]]:
    """Canonical names and bytes of a unit's matrices, read from where it says."""
    for member in unit.members:
        stretch = unit.stretches[member.stretch]
        data = np.empty(member.nbytes, np.uint8)
        where = checkpoint.stretch(stretch.file, stretch.offset, stretch.nbytes)
        checkpoint.read(where, data, member.start)
        yield prefix + member.name, data


def read_all(checkpoint: GgufCheckpoint, units: ModelUnits) -> dict[str, Bytes]:
    """The bytes of every matrix that can stream; a stack's are those of its experts, one after the other."""
    found: dict[str, list[Bytes]] = {}
    parts = [(units.embedding, "")]
    for layer in units.layers:
        parts += [(unit, f"blk.{layer.layer}.") for unit in (layer.dense, *layer.experts)]
    for unit, prefix in parts:
        assert unit is not None
        for name, data in members(checkpoint, unit, prefix):
            found.setdefault(name, []).append(data)
    return {name: np.concatenate(pieces) for name, pieces in found.items()}


@pytest.mark.parametrize("block_format", ["f32", "q8_0"])
@pytest.mark.parametrize("name", IN_GGUF)
def test_units_are_where_the_files_weights_are(name: str, block_format: str, tmp_path: Path) -> None:
    with open_gguf(tiny_gguf(name, tmp_path, block_format=block_format)) as checkpoint:
        config = config_from_checkpoint(checkpoint)
        found = read_all(checkpoint, model_units(config, checkpoint.tensors))
        for slot, recipe in resolve(config, checkpoint.tensors).recipes.items():
            if slot.kind == "vector" or slot.name == "output.weight":
                continue
            numbers = int(np.prod(slot.shape))
            expected = np.empty(recipe.format(checkpoint.tensors).row_nbytes(numbers), np.uint8)
            recipe.fill(Reader(checkpoint), expected)
            assert np.array_equal(found.pop(slot.name), expected), slot.name
    assert not found


def test_the_bytes_of_units_add_up_to_the_models(tmp_path: Path) -> None:
    with open_gguf(tiny_gguf("olmoe", tmp_path)) as checkpoint:
        units = model_units(config_from_checkpoint(checkpoint), checkpoint.tensors)
        assert units.nbytes == sum(tensor.nbytes for tensor in checkpoint.tensors.values())
        for layer in units.layers:
            assert layer.num_experts == len(layer.experts) == 8
            assert all(unit.nbytes == layer.expert_nbytes for unit in layer.experts)
            assert all(unit.slot_nbytes <= layer.slot_nbytes for unit in layer.experts)


def test_units_count_the_room_between_large_matrices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spacing, "LARGE", 1024)
    with open_gguf(tiny_gguf("olmoe", tmp_path)) as checkpoint:
        units = model_units(config_from_checkpoint(checkpoint), checkpoint.tensors)
        nbytes = [tensor.nbytes for tensor in checkpoint.tensors.values()]
    assert units.nbytes == sum(map(spacing.spaced, nbytes)) > sum(nbytes)


def test_what_is_decoded_while_loading_cannot_stream(tmp_path: Path) -> None:
    with open_gguf(tiny_gguf("olmoe", tmp_path, block_format="q4_0")) as checkpoint:
        config = config_from_checkpoint(checkpoint)
        tensors = {
            name: replace(tensor, format=format_by_name("q8_1")) if "_exps" in name else tensor
            for name, tensor in checkpoint.tensors.items()
        }
        units = model_units(config, tensors)
    assert all(not layer.experts and layer.num_experts == 8 for layer in units.layers)
    assert units.why_not == ("q8_1 is kept in memory as q8_0",)


def test_an_embedding_in_panels_is_not_read_by_rows(tmp_path: Path) -> None:
    for name, can_stream in (("llama", False), ("llama-tied", True)):
        with open_gguf(tiny_gguf(name, tmp_path)) as checkpoint:
            config = config_from_checkpoint(checkpoint)
            tensors = dict(checkpoint.tensors)
            tensors["token_embd.weight"] = replace(tensors["token_embd.weight"], interleaved=True)
            embedding = model_units(config, tensors).embedding
        assert (embedding is not None) == can_stream
        assert embedding is None or embedding.members[0].interleaved


def test_entries_of_a_stack_with_a_stride_lie_a_stride_apart(tmp_path: Path) -> None:
    with open_gguf(tiny_gguf("olmoe", tmp_path)) as checkpoint:
        config = config_from_checkpoint(checkpoint)
        name = "blk.1.ffn_up_exps.weight"
        tensors = {**checkpoint.tensors, name: replace(checkpoint.tensors[name], stride=1 << 20)}
        experts = model_units(config, tensors).layers[1].experts
    for number, unit in enumerate(experts):
        (up,) = (member for member in unit.members if member.name == "ffn_up_exps.weight")
        assert unit.stretches[up.stretch].offset + up.start == tensors[name].offset + number * (1 << 20)
