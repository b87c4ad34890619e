"""Packed files under a budget: the numbers of the model that was packed, one read for each unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.engine.residency.conftest import Load, logits_of, whole
from tests.models.tiny import tiny_gguf

from apportion.compress import pack


@pytest.mark.parametrize("block_format", ["f32", "q4_0", "nvfp4"])
@pytest.mark.parametrize("name", ["llama", "llama-tied", "olmoe", "qwen2moe", "gpt_oss", "deepseek2"])
def test_a_packed_model_that_streams_computes_the_same_numbers(
    load: Load, name: str, block_format: str, tmp_path: Path
) -> None:
    source = tiny_gguf(name, tmp_path, block_format=block_format)
    pack(source, tmp_path / "packed.gguf")
    streamed = load(tmp_path / "packed.gguf", 3, range(3), buffers=2)
    np.testing.assert_array_equal(logits_of(streamed.model), logits_of(whole(source)))
    assert streamed.residency.counters.layer_reads >= 3


def test_rows_of_the_embedding_are_found_in_a_packed_file(load: Load, tmp_path: Path) -> None:
    source = tiny_gguf("olmoe", tmp_path, block_format="q8_0")
    pack(source, tmp_path / "packed.gguf")
    streamed = load(tmp_path / "packed.gguf", 2, embedding="rows")
    np.testing.assert_array_equal(logits_of(streamed.model), logits_of(whole(source)))


def test_an_expert_is_one_read(load: Load, tmp_path: Path) -> None:
    source = tiny_gguf("olmoe", tmp_path, block_format="q8_0")
    pack(source, tmp_path / "packed.gguf")
    calls = []
    for path in (source, tmp_path / "packed.gguf"):
        streamed = load(path, 2)
        before = streamed.residency.reader.stats()
        logits_of(streamed.model)
        after = streamed.residency.reader.stats()
        reads = after.num_reads + after.num_prefetches - before.num_reads - before.num_prefetches
        calls.append((after.num_calls - before.num_calls) / reads)
    assert calls[1] == 1 < calls[0]
