"""Sampling parameters: what is refused, and where defaults come from."""

from __future__ import annotations

import math

import pytest

from apportion.core.errors import UsageError
from apportion.engine.params import (
    DEFAULTS,
    GENERATION_CONFIG_KEYS,
    GGUF_KEYS,
    SamplingParams,
    recommended_params,
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.inf),
        ("temperature", math.nan),
        ("temperature", "warm"),
        ("temperature", True),
        ("top_k", -1),
        ("top_k", 2.5),
        ("top_p", 0),
        ("top_p", 1.01),
        ("min_p", 1.5),
        ("typical_p", 0),
        ("repetition_penalty", 0),
        ("presence_penalty", math.inf),
        ("frequency_penalty", math.nan),
        ("penalty_window", -1),
        ("seed", -1),
        ("seed", 2**64),
        ("max_tokens", 0),
        ("logprobs", 101),
        ("stop", [""]),
        ("stop", [3]),
        ("logit_bias", {-1: 0.0}),
        ("logit_bias", {1: math.nan}),
        ("logit_bias", {1: math.inf}),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_name(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=name):
        SamplingParams(**{name: value})


def test_one_stop_string_is_a_list_of_one() -> None:
    assert SamplingParams(stop="END").stop == ("END",)


def test_what_the_request_says_wins_over_the_model_and_the_model_over_the_defaults() -> None:
    params = SamplingParams(temperature=0.1).completed(SamplingParams(temperature=0.5, top_k=7))
    assert (params.temperature, params.top_k, params.top_p) == (0.1, 7, DEFAULTS.top_p)


def test_zero_counts_as_said() -> None:
    params = SamplingParams(temperature=0, top_k=0, min_p=0).completed(
        SamplingParams(temperature=1, top_k=9, min_p=1)
    )
    assert params.greedy
    assert (params.top_k, params.min_p) == (0, 0)


def test_recommendations_are_read_from_gguf_and_generation_config() -> None:
    gguf = recommended_params(
        {"general.sampling.temp": 0.6, "general.sampling.top_k": 20, "top_k": 3}, GGUF_KEYS
    )
    assert (gguf.temperature, gguf.top_k) == (0.6, 20)
    folder = recommended_params({"temperature": 1.0, "top_p": 0.9, "top_k": 64}, GENERATION_CONFIG_KEYS)
    assert (folder.temperature, folder.top_p, folder.top_k) == (1.0, 0.9, 64)


def test_a_nonsensical_recommendation_counts_as_absent() -> None:
    params = recommended_params({"general.sampling.temp": "hot", "general.sampling.top_p": 9.0}, GGUF_KEYS)
    assert params == SamplingParams()
