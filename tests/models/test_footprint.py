from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import IN_GGUF, tiny_config, tiny_gguf

from apportion.formats.gguf import open_gguf
from apportion.kernels import ReferenceOps, Weight
from apportion.models import (
    bytes_per_pass,
    bytes_per_token,
    config_from_checkpoint,
    kv_bytes_per_token,
    kv_bytes_seen,
    kv_nbytes,
    load_model,
)
from apportion.models.weights import MoeWeights


def test_kv_bytes_count_keys_and_values_of_all_layers() -> None:
    config = tiny_config("llama-mistral")
    assert kv_bytes_per_token(config) == 3 * 2 * (24 + 24) * 2
    assert kv_bytes_per_token(config, "f32") == 2 * kv_bytes_per_token(config)


def test_a_step_sees_no_more_keys_and_values_than_each_layers_window() -> None:
    config = tiny_config("gemma3")
    assert set(config.windows) == {0, 20}
    one = kv_bytes_per_token(config) // config.num_layers
    assert kv_bytes_seen(config, 7) == 7 * kv_bytes_per_token(config)
    assert kv_bytes_seen(config, 50) == one * sum(window or 50 for window in config.windows)
    assert kv_bytes_seen(config, 50, "f32") == 2 * kv_bytes_seen(config, 50)


def test_scales_are_counted_to_the_last() -> None:
    config = tiny_config("llama-mistral")  # 3 layers, 2 heads of 24
    assert kv_bytes_per_token(config, "q8") == 3 * 2 * 2 * (24 + 2)
    assert kv_bytes_per_token(config, "q4") == 3 * 2 * 2 * (16 + 4)  # whole groups of 16
    assert kv_bytes_per_token(config, "f16,q8") == 2 * 2 * (48 + 2 * 26)


def test_a_step_over_codes_sees_sinks_and_the_recent_window_as_they_were_computed() -> None:
    config = tiny_config("llama")
    f16, q4 = (kv_bytes_per_token(config, name) for name in ("f16", "q4"))
    assert kv_bytes_seen(config, 100, "q4") == 100 * f16
    assert kv_bytes_seen(config, 1160, "q4") == 160 * f16 + 1000 * q4


def test_a_cache_of_codes_has_room_for_the_hot_window() -> None:
    config = tiny_config("llama")
    f16, q4 = (kv_nbytes(config, name, 32) for name in ("f16", "q4"))
    assert q4 > f16  # one block of each
    alone = q4 - f16
    assert kv_nbytes(config, "q4", 32 * 100) == 100 * alone + 10 * f16
    assert kv_nbytes(config, "q4_smooth", 32 * 100) == 100 * alone + 10 * f16
    assert kv_nbytes(config, "q4_smooth", 1) >= kv_nbytes(config, "f16", min(512, config.context_length))


def test_a_pass_of_many_tokens_reads_dense_weights_once_and_in_the_end_every_expert(tmp_path: Path) -> None:
    checkpoint = open_gguf(tiny_gguf("olmoe", tmp_path))
    config = config_from_checkpoint(checkpoint)
    one, two, many = (bytes_per_pass(config, checkpoint.tensors, tokens) for tokens in (1, 2, 10_000))
    checkpoint.close()
    experts = 3 * 8 * 3 * 64 * 32 * 4  # layers, experts, matrices
    row = 64 * 4
    assert one == bytes_per_token(config, checkpoint.tensors)
    assert two - one == row + round(experts * (3 / 8) * (5 / 8))
    assert many - one == 9_999 * row + experts * 5 / 8


@pytest.mark.parametrize("block_format", ["f32", "q8_0"])
@pytest.mark.parametrize("name", IN_GGUF)
def test_bytes_per_token_are_those_of_loaded_weights(name: str, block_format: str, tmp_path: Path) -> None:
    checkpoint = open_gguf(tiny_gguf(name, tmp_path, block_format=block_format))
    config = config_from_checkpoint(checkpoint)
    weights = load_model(checkpoint, ReferenceOps()).weights
    forecast = bytes_per_token(config, checkpoint.tensors)
    checkpoint.close()

    total, experts = 0.0, 0.0
    for layer in weights.layers:
        total += sum_of(layer)
        if isinstance(layer.feed_forward, MoeWeights):
            experts += sum_of(layer.feed_forward.experts)
    total += weights.head.nbytes + weights.embedding.nbytes // config.vocab_size + weights.output_norm.nbytes
    total += sum(divisors.nbytes for divisors in weights.rope_divisors.values())
    if config.experts is not None:
        total -= experts * (1 - config.experts.routing.top_k / config.experts.num_experts)
    assert forecast == round(total)


def sum_of(part: object) -> int:
    """Bytes of all weights in a dataclass of weights."""
    if part is None:
        return 0
    if isinstance(part, Weight | np.ndarray):
        return int(part.nbytes)
    return sum(sum_of(getattr(part, name)) for name in part.__dataclass_fields__)  # type: ignore[attr-defined]
