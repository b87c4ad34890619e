from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import IN_GGUF, tiny_config, tiny_gguf

from apportion.formats.gguf import open_gguf
from apportion.kernels import ReferenceOps, Weight
from apportion.models import bytes_per_token, config_from_checkpoint, kv_bytes_per_token, load_model
from apportion.models.weights import MoeWeights


def test_kv_bytes_count_keys_and_values_of_all_layers() -> None:
    config = tiny_config("llama-mistral")
    assert kv_bytes_per_token(config) == 3 * 2 * (24 + 24) * 2
    assert kv_bytes_per_token(config, np.float32) == 2 * kv_bytes_per_token(config)


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
