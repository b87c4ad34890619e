"""The factors of smoothed keys: alike for what rotation mixes, and harmless to what is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.models.tiny import tiny_config, tiny_model

from apportion.core.errors import NotFinite, Unsupported
from apportion.models.smoothing import TEXT, factors, rotated_pairs, smoothing_of

IDS = np.random.default_rng(3).integers(0, 300, 48).astype(np.int32)


def test_channels_that_are_rotated_into_each_other_have_one_factor() -> None:
    keys = np.random.default_rng(0).standard_normal((50, 24)).astype(np.float32)
    keys[:, 5] *= 100
    config = tiny_config("llama")
    found = factors(config, 0, keys)
    first, second = rotated_pairs(config, 0)
    assert len(first) == len(second) > 0
    np.testing.assert_array_equal(found[first], found[second])
    np.testing.assert_allclose(found[5] ** 2, np.abs(keys[:, 5]).max(), rtol=1e-5)
    assert found.dtype == np.float32
    assert (found > 0).all()


def test_a_channel_of_zeros_stays_as_it_is() -> None:
    keys = np.zeros((4, 24), np.float32)
    np.testing.assert_array_equal(factors(tiny_config("llama"), 0, keys), np.ones(24, np.float32))


def test_keys_that_are_no_numbers_are_refused() -> None:
    keys = np.full((4, 24), np.inf, np.float32)
    with pytest.raises(NotFinite):
        factors(tiny_config("llama"), 0, keys)


def test_factors_are_for_every_head_of_every_layer_and_the_same_each_time(tmp_path: Path) -> None:
    model = tiny_model("llama", tmp_path)
    found = smoothing_of(model, IDS)
    config = model.config
    assert [one.shape for one in found] == [(config.num_kv_heads, config.head_dim)] * config.num_layers
    for one, again in zip(found, smoothing_of(model, IDS), strict=True):
        np.testing.assert_array_equal(one, again)


def test_smoothed_codes_give_nearly_the_same_logits(tmp_path: Path) -> None:
    model = tiny_model("llama", tmp_path)
    model.calibration = lambda: IDS
    ours = model.forward(IDS, model.new_cache(48, "q4_smooth"))  # all of it is hot
    theirs = model.forward(IDS, model.new_cache(48, "f16"))
    np.testing.assert_allclose(ours, theirs, rtol=2e-2, atol=2e-2)


def test_a_model_without_a_text_and_latent_attention_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="no tokenizer"):
        tiny_model("llama", tmp_path).new_cache(48, "q4_smooth")
    latent = tiny_model("deepseek2", tmp_path)
    latent.calibration = lambda: IDS
    with pytest.raises(Unsupported, match="latent"):
        latent.new_cache(48, "q4_smooth")


def test_the_text_is_long_enough_to_see_every_kind_of_token() -> None:
    assert 1200 < len(TEXT) < 2500
    assert {"?", "(", "-", ":", "0"} <= set(TEXT)
