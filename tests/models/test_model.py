"""A model's program on the core: as the same steps one by one, for every family."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import IN_GGUF, tiny_model

from apportion.formats.block import Floats
from apportion.kernels import NativeOps
from apportion.kernels.eager import EagerProgram
from apportion.models import Model
from apportion.models.forward import ForwardPass

IDS = np.random.default_rng(5).integers(0, 300, 40).astype(np.int32)
# Their logits pass a hyperbolic tangent, or a shared expert a sigmoid, that NumPy rounds differently.
ROUNDED = {"gemma2", "qwen2moe"}


def logits(model: Model, chunks: list[int]) -> Floats:
    """Logits of all of IDS, given in chunks."""
    cache, out, start = model.new_cache(len(IDS)), [], 0
    for size in chunks:
        out.append(model.forward(IDS[start : start + size], cache, logits="all"))
        start += size
    return np.concatenate(out)


@pytest.mark.parametrize("block_format", ["f16", "q8_0"])
@pytest.mark.parametrize("name", IN_GGUF)
def test_a_program_computes_what_its_steps_do(name: str, block_format: str, tmp_path: Path) -> None:
    model = tiny_model(name, tmp_path, NativeOps(threads=2), block_format=block_format)
    whole = logits(model, [40])
    assert 0.2 < whole.std() < 5
    np.testing.assert_array_equal(logits(model, [1, 2, 33, 1, 1, 2]), whole)
    np.testing.assert_array_equal(logits(Model(model.config, model.weights, NativeOps(1)), [40]), whole)

    cache = model.new_cache(len(IDS))
    forward = ForwardPass(model.config, model.weights, model.experts_of)
    at_once = EagerProgram(model.ops, forward).run(IDS, [cache.segment(len(IDS))], want="all")
    if name.split("-")[0] in ROUNDED:
        np.testing.assert_allclose(whole, at_once, atol=2e-2 if block_format == "q8_0" else 1e-4)
    else:
        np.testing.assert_array_equal(whole, at_once)
