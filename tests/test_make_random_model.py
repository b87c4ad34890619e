"""Random models for speed: files that load, with weights and activations like a real model's."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks import make_random_model
from benchmarks.make_random_model import SHAPES, Shape, make

from apportion.engine.loading import load
from apportion.formats.block import Floats
from apportion.formats.blocks import format_by_name
from apportion.formats.gguf import open_gguf
from apportion.kernels import NativeOps


def shrunk(name: str) -> Shape:
    """The shape with everything small but its kind."""
    small = {"layers": 2, "hidden": 128, "heads": 4, "kv_heads": 2, "head_size": 32}
    return replace(
        SHAPES[name], **small, experts=8, experts_used=2, expert_size=64, vocabulary=800, context=64
    )


@pytest.mark.parametrize("name", SHAPES)
def test_a_random_model_loads_and_computes_ordinary_numbers(name: str, tmp_path: Path) -> None:
    path = tmp_path / "random.gguf"
    make(shrunk(name), path, format_by_name("q4_0"))
    loaded = load(path, NativeOps(threads=1))
    ids = loaded.tokenizer.encode("the art of ease", add_special=True)
    assert loaded.tokenizer.decode(ids[1:]) == "the art of ease"
    logits = loaded.model.forward(ids, loaded.model.new_cache(32), logits="all")
    assert np.isfinite(logits).all()
    assert 0.01 < logits.std() < 10


def test_matrices_are_normally_distributed_in_the_format_and_norms_and_routers_plain(tmp_path: Path) -> None:
    path = tmp_path / "random.gguf"
    make(shrunk("olmoe"), path, format_by_name("q8_0"))
    numbers = numbers_of(path, "token_embd.weight")
    assert numbers.std() == pytest.approx(0.02, rel=0.05)
    assert abs(numbers.mean()) < 0.001
    checkpoint = open_gguf(path)
    formats = {name: info.format.name for name, info in checkpoint.tensors.items()}
    assert formats["blk.1.ffn_down_exps.weight"] == formats["output.weight"] == "q8_0"
    assert formats["blk.0.attn_norm.weight"] == formats["blk.0.ffn_gate_inp.weight"] == "f32"
    checkpoint.close()


def test_embeddings_alone_can_be_larger(tmp_path: Path) -> None:
    path = tmp_path / "random.gguf"
    make(shrunk("olmoe"), path, format_by_name("q8_0"), embedding=8)
    assert numbers_of(path, "token_embd.weight").std() == pytest.approx(8, rel=0.05)
    for name in ("output.weight", "blk.0.attn_output.weight", "blk.1.ffn_gate_inp.weight"):
        assert numbers_of(path, name).std() == pytest.approx(0.02, rel=0.05)


def numbers_of(path: Path, name: str) -> Floats:
    """A matrix, [rows, columns]."""
    checkpoint = open_gguf(path)
    info = checkpoint.tensors[name]
    data = np.empty(info.nbytes, np.uint8)
    checkpoint.read(info, data)
    checkpoint.close()
    return info.format.dequantize(data.reshape(info.shape[0], -1))


def test_the_same_seed_writes_the_same_file(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make(shrunk("olmoe"), tmp_path / name, format_by_name("q4_0"), seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_the_command_takes_a_shape_a_format_and_a_number_of_layers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(SHAPES, "olmoe", shrunk("olmoe"))
    path = tmp_path / "random.gguf"
    words = ["make_random_model.py", "olmoe", str(path), "--format", "q4_1", "--layers", "3"]
    words += ["--embedding", "1"]
    monkeypatch.setattr(sys, "argv", words)
    make_random_model.main()
    assert str(path) in capsys.readouterr().out
    checkpoint = open_gguf(path)
    assert checkpoint.metadata["olmoe.block_count"] == 3
    assert checkpoint.tensors["blk.2.attn_q.weight"].format.name == "q4_1"
    checkpoint.close()
    assert numbers_of(path, "token_embd.weight").std() == pytest.approx(1, rel=0.05)
