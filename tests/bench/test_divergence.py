"""Divergence against its definition, and of settings that change something or nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.models.tiny import tiny_gguf

from apportion.bench.divergence import Positions, Side, divergence, summary
from apportion.bench.windows import text_windows
from apportion.core.errors import UsageError
from apportion.engine.loading import load
from apportion.kernels import NativeOps
from apportion.models import Model


def test_a_model_does_not_diverge_from_itself(tiny, text) -> None:
    result = divergence(Side(tiny.model), Side(tiny.model), text_windows(text, tiny.tokenizer, 64), None)
    assert result.max_kld < 1e-9
    assert (result.same_top, result.perplexity_ratio, result.rms_probability_difference) == (1, 1, 0)
    assert result.tokens == result.windows * 31


def test_figures_are_those_of_the_definition() -> None:
    rng = np.random.default_rng(2)
    judged, reference = rng.standard_normal((2, 40, 7)).astype(np.float32) * 3
    targets = rng.integers(0, 7, 40)
    positions = Positions()
    positions.add(judged[:25], reference[:25], targets[:25])
    positions.add(judged[25:], reference[25:], targets[25:])
    result = summary(positions, ctx=10, num_windows=1, seconds=0.0)

    def probabilities(logits: np.ndarray) -> np.ndarray:
        weights = np.exp(logits.astype(np.float64))
        return weights / weights.sum(axis=1, keepdims=True)

    p, q = probabilities(reference), probabilities(judged)
    kld = (p * np.log(p / q)).sum(axis=1)
    own = np.arange(40), targets
    assert result.mean_kld == pytest.approx(kld.mean(), rel=1e-5)
    assert result.median_kld == pytest.approx(np.median(kld), rel=1e-5)
    assert result.max_kld == pytest.approx(kld.max(), rel=1e-5)
    assert result.percentiles["99.0"] == pytest.approx(np.percentile(kld, 99), rel=1e-5)
    assert result.same_top == (p.argmax(axis=1) == q.argmax(axis=1)).mean()
    assert result.rms_probability_difference == pytest.approx(math.sqrt(((q - p)[own] ** 2).mean()), rel=1e-5)
    assert result.mean_probability_difference == pytest.approx((q - p)[own].mean(), rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(-np.log(q[own]).mean()), rel=1e-5)
    assert result.perplexity_ratio == pytest.approx(result.perplexity / result.reference_perplexity)


def test_rounded_activations_diverge_a_little_from_float_ones(tiny, text) -> None:
    exact = Model(tiny.model.config, tiny.model.weights, NativeOps(threads=1, exact=True))
    result = divergence(Side(tiny.model), Side(exact), text_windows(text, tiny.tokenizer, 64), None)
    assert 0 < result.mean_kld < 0.01
    assert result.mean_kld <= result.max_kld


def test_an_f16_cache_diverges_a_little_from_an_f32_one(tiny, text) -> None:
    windows = text_windows(text, tiny.tokenizer, 64)
    result = divergence(Side(tiny.model, "f16"), Side(tiny.model, "f32"), windows, None)
    assert 0 < result.mean_kld < 1e-3


def test_other_weights_diverge_much(tiny, text, tmp_path) -> None:
    other = load(tiny_gguf("llama", tmp_path, seed=1), NativeOps(threads=1))
    result = divergence(Side(tiny.model), Side(other.model), text_windows(text, tiny.tokenizer, 64), None)
    assert result.mean_kld > 0.01
    assert result.same_top < 0.9


def test_different_vocabularies_are_refused(tiny, text) -> None:
    from types import SimpleNamespace

    other = SimpleNamespace(config=SimpleNamespace(vocab_size=7))
    with pytest.raises(UsageError, match="vocabularies"):
        divergence(Side(tiny.model), Side(other), text_windows(text, tiny.tokenizer, 64), None)
