"""`apportion inspect`: what is in a model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apportion.formats.blocks import format_by_name
from apportion.formats.gguf import NewTensor, write_gguf

LLAMA = {
    "general.architecture": "llama", "llama.block_count": 2, "llama.context_length": 128,
    "llama.embedding_length": 64, "llama.feed_forward_length": 128, "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2, "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.vocab_size": 32, "tokenizer.ggml.tokens": [f"t{i}\x1b[2J" for i in range(32)],
    "general.odd": float("nan"), "general.scores": np.arange(32, dtype=np.float32),
}  # fmt: skip
SHAPES = {
    "attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64),
    "ffn_gate": (128, 64), "ffn_up": (128, 64), "ffn_down": (64, 128), "attn_norm": (64,), "ffn_norm": (64,),
}  # fmt: skip


def tensor(name: str, shape: tuple[int, ...]) -> NewTensor:
    new = NewTensor(name, format_by_name("f32" if len(shape) == 1 else "q8_0"), shape, np.empty(0, np.uint8))
    return new._replace(data=np.zeros(new.nbytes, np.uint8))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tensors = [tensor("token_embd.weight", (32, 64)), tensor("output_norm.weight", (64,))]
    tensors += [tensor(f"blk.{i}.{name}.weight", shape) for i in range(2) for name, shape in SHAPES.items()]
    write_gguf(tmp_path / "tiny.gguf", LLAMA, tensors)
    return tmp_path / "tiny.gguf"


def test_json_has_the_promised_keys_and_figures(apportion: Callable[..., Any], model: Path) -> None:
    outcome = apportion("inspect", model, "--json")
    facts = outcome.object
    assert outcome.status == 0
    assert facts.keys() >= {"tensors", "bytes_by_format", "bytes_per_token", "kv_bytes_per_token"}
    assert facts["note"] is None
    assert facts["kv_bytes_per_token"] == 2 * 2 * 2 * 16 * 2  # layers, k and v, heads, their size, f16
    assert sum(facts["bytes_by_format"].values()) == sum(t["bytes"] for t in facts["tensors"])
    assert facts["bytes_by_format"]["f32"] == 5 * 64 * 4
    total, row = sum(facts["bytes_by_format"].values()), 2 * 34
    assert facts["bytes_per_token"] == total + row  # a tied head is read whole, and one row of it again
    assert facts["tensors"][0] == {
        "name": "token_embd.weight", "format": "q8_0", "shape": [32, 64], "bytes": 32 * 68,
    }  # fmt: skip
    assert facts["metadata"]["general.scores"] == {"length": 32, "first": [0, 1, 2, 3, 4, 5]}
    assert facts["metadata"]["tokenizer.ggml.tokens"]["length"] == 32
    json.loads(outcome.out, parse_constant=pytest.fail)


def test_tables_show_tensors_and_metadata_without_control_characters(
    apportion: Callable[..., Any], model: Path
) -> None:
    outcome = apportion("inspect", model, "--tensors", "--metadata")
    assert outcome.status == 0
    for text in (
        "blk.1.ffn_down.weight",
        "64 x 128",
        "q8_0",
        "llama.block_count",
        "32 items",
        "KV cache per token",
    ):
        assert text in outcome.out
    assert "\x1b" not in outcome.out


def test_without_options_only_the_summary_is_shown(apportion: Callable[..., Any], model: Path) -> None:
    outcome = apportion("inspect", model)
    assert "weights read per token" in outcome.out
    assert "blk.1.ffn_down.weight" not in outcome.out


def test_a_model_that_cannot_run_is_still_shown(apportion: Callable[..., Any], tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", {"general.architecture": "strange"}, [tensor("a", (3,))])
    facts = apportion("inspect", tmp_path / "m.gguf", "--json").object
    assert facts["bytes_per_token"] is None
    assert "strange" in facts["note"]
    assert facts["tensors"][0]["name"] == "a"


def test_a_vocabulary_alone_is_shown(apportion: Callable[..., Any], tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", LLAMA, [])
    outcome = apportion("inspect", tmp_path / "m.gguf")
    assert outcome.status == 0
    assert "a vocabulary alone" in outcome.out


def test_a_bad_file_is_an_error_object(apportion: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF\3\0\0\0")
    outcome = apportion("inspect", tmp_path / "m.gguf", "--json")
    assert outcome.status == 1
    assert outcome.object["error"]["code"] in ("truncated", "bad_file")
