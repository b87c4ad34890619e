"""Recipes: a tensor made in parts is the tensor made at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from apportion.formats.block import Bytes
from apportion.formats.blocks import format_by_name
from apportion.formats.checkpoint import TensorInfo
from apportion.formats.safetensors.dtypes import DTYPES
from apportion.models.recipes import (
    Columns,
    Constant,
    Each,
    HeadTransposed,
    Interleaved,
    PlusOne,
    Reader,
    Recipe,
    Run,
    Stack,
    Whole,
    entry_nbytes,
    value_heads,
)
from apportion.models.repack import Mxfp4

F32, Q8_0 = format_by_name("f32"), format_by_name("q8_0")
STORED: dict[str, tuple[Any, tuple[int, ...]]] = {
    "matrix": (Q8_0, (48, 64)),
    "stack": (Q8_0, (6, 48, 64)),
    "columns": (F32, (6, 32, 48)),
    "vector": (F32, (40,)),
    "joint": (Q8_0, (4 * (24 + 20), 32)),
    "blocks": (DTYPES["U8"], (6, 32, 2, 16)),
    "scales": (DTYPES["U8"], (6, 32, 2)),
}
RECIPES: dict[str, Recipe] = {
    "whole": Whole("matrix"),
    "whole stack": Whole("stack"),
    "run": Run("matrix", 16, 48, 48),
    "each": Each("stack", 16, 32, 48),
    "stack of runs": Stack((Run("matrix", 0, 16, 48), Run("matrix", 32, 48, 48), Run("matrix", 16, 32, 48))),
    "interleaved": Interleaved(Whole("matrix"), 4, 8),
    "columns": Columns("columns", 1, 2),
    "plus one": PlusOne("vector"),
    "heads transposed": HeadTransposed("joint", 4, 24, 20),
    "value heads": value_heads("joint", 4, 24, 20),
    "constant": Constant((1.0, 2.0, 3.0)),
    "mxfp4": Mxfp4("blocks", "scales", 1, 2),
}


@pytest.fixture
def reader() -> Reader:
    """Over a checkpoint in memory, of random bytes."""
    rng = np.random.default_rng(0)
    infos, content = {}, {}
    for name, (block_format, shape) in STORED.items():
        nbytes = int(np.prod(shape)) // block_format.block_size * block_format.block_nbytes
        infos[name] = TensorInfo(name, block_format, shape, 0, 0, nbytes)
        content[name] = rng.integers(0, 60, nbytes, np.uint8)

    def read(info: TensorInfo, out: Bytes, start: int = 0) -> None:
        out[:] = content[info.name][start : start + out.size]

    checkpoint: Any = SimpleNamespace(tensors=infos, read=read)
    return Reader(checkpoint)


@pytest.mark.parametrize("name", RECIPES)
def test_parts_of_a_tensor_are_those_of_the_whole(name: str, reader: Reader) -> None:
    recipe = RECIPES[name]
    count, grain = recipe.shape(reader.tensors)[0], recipe.grain(reader.tensors)
    each = entry_nbytes(recipe, reader.tensors)
    whole = np.empty(count * each, np.uint8)
    recipe.fill(reader, whole)
    assert count % grain == 0
    for step in {grain, 2 * grain} if count > grain else {grain}:
        for first in range(0, count, step):
            part = np.empty(min(step, count - first) * each, np.uint8)
            recipe.fill(reader, part, first)
            assert np.array_equal(part, whole[first * each : first * each + part.size]), first


@pytest.mark.parametrize("name", RECIPES)
def test_no_recipe_takes_more_than_it_says(name: str, reader: Reader, tmp_path: Path) -> None:
    import tracemalloc

    recipe = RECIPES[name]
    out = np.empty(recipe.grain(reader.tensors) * entry_nbytes(recipe, reader.tensors), np.uint8)
    recipe.fill(reader, out)
    tracemalloc.start()
    try:
        recipe.fill(reader, out)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= recipe.scratch_nbytes(reader.tensors) + 8192  # Python's own objects
