"""The forward pass as its callers use it: in chunks, in parts, over a cache that fills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models.tiny import IN_GGUF, tiny_model

from apportion.core.errors import ContextOverflow, UsageError
from apportion.kernels import NativeOps, available_isas
from apportion.models import Model

IDS = np.random.default_rng(3).integers(0, 300, 48)


def run(model: Model, chunks: list[int], kv: str = "f32") -> Any:
    """Logits of all of IDS, given in chunks."""
    cache, out, start = model.new_cache(len(IDS), kv), [], 0
    for size in chunks:
        out.append(model.forward(IDS[start : start + size], cache, logits="all"))
        start += size
    assert cache.length == start == len(IDS)
    return np.concatenate(out)


@pytest.mark.parametrize("name", IN_GGUF)
def test_chunks_of_a_prompt_do_not_change_its_logits(name: str, tmp_path: Path) -> None:
    model = tiny_model(name, tmp_path)
    whole = run(model, [48])
    assert 0.2 < whole.std() < 5
    for chunks in ([1, 47], [25, 23], [16, 1, 1, 30]):
        assert np.abs(run(model, chunks) - whole).max() < 1e-4


@pytest.mark.parametrize("isa", [isa for isa in available_isas() if isa != "portable"])
@pytest.mark.parametrize("name", ["llama", "gemma3", "qwen3moe", "deepseek2"])
def test_every_instruction_set_gives_the_portable_codes_logits(
    name: str, isa: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = {}
    for chosen in ("portable", isa):
        monkeypatch.setenv("APPORTION_ISA", chosen)
        ops = NativeOps(2)
        assert ops.isa == chosen
        logits[chosen] = run(tiny_model(name, tmp_path, ops), [31, 1, 16])
    assert np.abs(logits[isa] - logits["portable"]).max() < 1e-4


@pytest.mark.parametrize("name", ["llama", "gemma3", "deepseek2"])
def test_a_half_precision_cache_costs_little(name: str, tmp_path: Path) -> None:
    model = tiny_model(name, tmp_path)
    error = np.abs(run(model, [24, 24], "f16") - run(model, [24, 24])).max()
    assert 0 < error < 0.05


def test_layers_run_in_parts_as_they_run_at_once(tmp_path: Path) -> None:
    model = tiny_model("qwen3moe", tmp_path)
    expected = run(model, [48])
    cache = model.new_cache(48, "f32")
    x = model.embed(IDS.astype(np.int32))
    for layer in range(model.config.num_layers):
        x = model.run_layers(x, cache, layer, layer + 1)
        assert cache.length == 0, "positions count once all layers have run"
    cache.advance(48)
    assert np.array_equal(model.head(x), expected)


def test_only_the_last_logits_are_made_unless_all_are_asked_for(tmp_path: Path) -> None:
    model = tiny_model("llama", tmp_path)
    last = model.forward(IDS, model.new_cache(48, "f32"))
    assert last.shape == (1, model.config.vocab_size)
    assert last.dtype == np.float32
    assert np.allclose(last[0], run(model, [48])[-1], atol=1e-5)


def test_forgetting_positions_and_running_them_again_changes_nothing(tmp_path: Path) -> None:
    model = tiny_model("gpt_oss", tmp_path)
    cache = model.new_cache(48, "f32")
    first = model.forward(IDS, cache, logits="all")
    cache.truncate(30)
    assert np.allclose(model.forward(IDS[30:], cache, logits="all"), first[30:], atol=1e-5)


def test_a_full_cache_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    model = tiny_model("llama", tmp_path)
    cache = model.new_cache(40)
    model.forward(IDS[:30], cache)
    with pytest.raises(ContextOverflow) as caught:
        model.forward(IDS[30:], cache)
    assert caught.value.numbers == {"filled": 30, "wanted": 18, "capacity": 40}
    assert cache.length == 30


@pytest.mark.parametrize("ids", [[], [-1], [320], [5, 2**40]])
def test_tokens_outside_of_the_vocabulary_are_refused(ids: list[int], tmp_path: Path) -> None:
    model = tiny_model("llama", tmp_path)
    with pytest.raises(UsageError):
        model.forward(ids, model.new_cache(8))


def test_a_window_hides_what_lies_before_it(tmp_path: Path) -> None:
    """With a window of 20 in each of 3 layers, a token reaches 57 positions back and no further."""
    model = tiny_model("llama-mistral", tmp_path)
    ids = np.random.default_rng(4).integers(0, 300, 80)
    changed = ids.copy()
    changed[20] = (ids[20] + 1) % 300

    def logits(tokens: Any) -> Any:
        return model.forward(tokens, model.new_cache(80, "f32"), logits="all")

    differs = np.abs(logits(ids) - logits(changed)).max(axis=1) > 0
    assert not differs[:20].any()
    assert differs[20]
    assert differs[20 + 57]
    assert not differs[20 + 58 :].any()


def test_longrope_takes_the_long_factors_by_the_capacity_of_the_cache(tmp_path: Path) -> None:
    model = tiny_model("phi3", tmp_path)
    assert model.config.rope.scaling.kind == "longrope"
    original = model.config.rope.scaling.original_context
    short = model.forward(IDS, model.new_cache(original, "f32"))
    same = model.forward(IDS, model.new_cache(original - 1, "f32"))
    long = model.forward(IDS, model.new_cache(original + 1, "f32"))
    assert np.array_equal(short, same)
    assert np.abs(short - long).max() > 1e-2


def test_experts_are_reached_through_one_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("mixtral", tmp_path)
    asked: list[int] = []
    found = Model.experts_of

    def experts_of(self: Model, layer: int) -> Any:
        asked.append(layer)
        return found(self, layer)

    monkeypatch.setattr(Model, "experts_of", experts_of)
    run(model, [48])
    assert asked == [0, 1, 2]
