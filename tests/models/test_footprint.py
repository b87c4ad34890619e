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
    load_model,
)
from apportion.models.weights import MoeWeights


def test_kv_bytes_count_keys_and_values_of_all_layers() -> None:
    config = tiny_config("llama-mistral")
    assert kv_bytes_per_token(config) == 3 * 2 * (24 + 24) * 2
    assert kv_bytes_per_token(config, np.float32) == 2 * kv_bytes_per_token(config)


def test_a_step_sees_no_more_keys_and_values_than_each_layers_window() -> None:
    config = tiny_config("gemma3")
    assert set(config.windows) == {0, 20}
    one = kv_bytes_per_token(config) // config.num_layers
    assert kv_bytes_seen(config, 7) == 7 * kv_bytes_per_token(config)
    assert kv_bytes_seen(config, 50) == one * sum(window or 50 for window in config.windows)
    assert kv_bytes_seen(config, 50, np.float32) == 2 * kv_bytes_seen(config, 50)


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
