"""Configurations that contradict themselves are refused, and the message names the culprit."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models.tiny import IN_GGUF, TINY, gguf_metadata, tiny_config, tiny_hf_config

from apportion.core.errors import ApportionError, BadFile, Unsupported
from apportion.models import ModelConfig
from apportion.models.family import FAMILIES
from apportion.models.read_gguf import read_gguf
from apportion.models.read_hf import read_hf

NAN, INF, HUGE = math.nan, math.inf, 10**400
MISSING = object()

# (entry, key, value, class, what the message must name)
BAD_HF = [
    ("llama", "hidden_size", MISSING, BadFile, "hidden_size"),
    ("llama", "hidden_size", 0, BadFile, "hidden_size"),
    ("llama", "hidden_size", -64, BadFile, "hidden_size"),
    ("llama", "hidden_size", "64", BadFile, "hidden_size"),
    ("llama", "hidden_size", 64.5, BadFile, "hidden_size"),
    ("llama", "hidden_size", True, BadFile, "hidden_size"),
    ("llama", "hidden_size", [64, 65], Unsupported, "hidden_size"),
    ("llama", "hidden_size", [], BadFile, "hidden_size"),
    ("llama", "hidden_size", {"a": 1}, BadFile, "hidden_size"),
    ("llama", "hidden_size", HUGE, BadFile, "hidden_size"),
    ("llama", "hidden_size", 66, BadFile, "num_attention_heads"),
    ("llama", "vocab_size", 0, BadFile, "vocab_size"),
    ("llama", "vocab_size", 1 << 30, BadFile, "vocab_size"),
    ("llama", "num_hidden_layers", 0, BadFile, "num_hidden_layers"),
    ("llama", "num_hidden_layers", 10**9, BadFile, "num_hidden_layers"),
    ("llama", "num_attention_heads", 0, BadFile, "num_attention_heads"),
    ("llama", "num_attention_heads", 3, BadFile, "num_attention_heads"),
    ("llama", "num_key_value_heads", 3, BadFile, "num_kv_heads"),
    ("llama", "num_key_value_heads", 0, BadFile, "num_key_value_heads"),
    ("llama", "num_key_value_heads", 8, BadFile, "num_kv_heads"),
    ("llama", "head_dim", 0, BadFile, "head_dim"),
    ("llama", "head_dim", 15, BadFile, "rope_dims"),
    ("llama", "head_dim", 1 << 20, BadFile, "head_dim"),
    ("llama", "intermediate_size", MISSING, BadFile, "intermediate_size"),
    ("llama", "intermediate_size", 1 << 25, BadFile, "feed_forward_size"),
    ("llama", "max_position_embeddings", 0, BadFile, "max_position_embeddings"),
    ("llama", "max_position_embeddings", None, BadFile, "max_position_embeddings"),
    ("llama", "rms_norm_eps", NAN, BadFile, "rms_norm_eps"),
    ("llama", "rms_norm_eps", -1.0, BadFile, "norm_eps"),
    ("llama", "rms_norm_eps", "small", BadFile, "rms_norm_eps"),
    ("llama", "rope_theta", 0, BadFile, "rope base"),
    ("llama", "rope_theta", -10000.0, BadFile, "rope base"),
    ("llama", "rope_theta", NAN, BadFile, "rope_theta"),
    ("llama", "rope_theta", INF, BadFile, "rope_theta"),
    ("llama", "rope_theta", HUGE, BadFile, "rope_theta"),
    ("llama", "rope_parameters", [1], BadFile, "rope_parameters"),
    ("llama", "rope_parameters", {"rope_theta": 0.0}, BadFile, "rope base"),
    ("llama", "rope_parameters", {"rope_type": "spiral"}, Unsupported, "spiral"),
    ("llama", "rope_parameters", {"rope_type": "linear"}, BadFile, "rope_parameters.factor"),
    ("llama", "rope_parameters", {"rope_type": "linear", "factor": 0}, BadFile, "factor"),
    ("llama", "rope_parameters", {"rope_type": "linear", "factor": NAN}, BadFile, "factor"),
    ("llama", "rope_scaling", {"type": 7}, BadFile, "rope_scaling.type"),
    ("llama", "partial_rotary_factor", 0.0, BadFile, "partial_rotary_factor"),
    ("llama", "partial_rotary_factor", 1.5, BadFile, "partial_rotary_factor"),
    ("llama", "hidden_act", "relu2", Unsupported, "relu2"),
    ("llama", "tie_word_embeddings", "yes", BadFile, "tie_word_embeddings"),
    ("llama", "quantization_config", {"quant_method": "gptq"}, Unsupported, "gptq"),
    ("llama", "sliding_window", -1, BadFile, "sliding_window"),
    ("llama-scaled", "rope_parameters.high_freq_factor", 1.0, BadFile, "high_freq_factor"),
    ("llama-scaled", "rope_parameters.low_freq_factor", 0, BadFile, "low_freq_factor"),
    ("llama-scaled", "rope_parameters.original_max_position_embeddings", 0, BadFile, "original_max_position"),
    ("gemma2", "query_pre_attn_scalar", 0, BadFile, "query_pre_attn_scalar"),
    ("gemma2", "attn_logit_softcapping", -50.0, BadFile, "attention_softcap"),
    ("gemma2", "final_logit_softcapping", NAN, BadFile, "final_logit_softcapping"),
    ("gemma2", "layer_types", ["sliding_attention"], BadFile, "window"),
    ("gemma2", "layer_types", ["linear_attention"] * 3, Unsupported, "linear_attention"),
    ("gemma2", "layer_types", "sliding_attention", BadFile, "layer_types"),
    ("phi3", "rope_parameters.long_factor", [1.0] * 5, BadFile, "rope factor"),
    ("phi3", "rope_parameters.long_factor", [0.0] * 6, BadFile, "rope factors"),
    ("phi3", "rope_parameters.short_factor", ["a"] * 6, BadFile, "short_factor"),
    ("phi3", "rope_parameters.short_factor", None, BadFile, "short_factor"),
    ("qwen3-yarn", "rope_parameters.factor", -1.0, BadFile, "factor"),
    ("qwen3-yarn", "rope_parameters.beta_fast", 0.5, BadFile, "beta_fast"),
    ("mixtral", "num_local_experts", 0, BadFile, "num_local_experts"),
    ("mixtral", "num_local_experts", 10**9, BadFile, "num_experts"),
    ("mixtral", "num_local_experts", MISSING, BadFile, "num_local_experts"),
    ("mixtral", "num_experts_per_tok", 5, BadFile, "experts_per_token"),
    ("mixtral", "num_experts_per_tok", 0, BadFile, "num_experts_per_tok"),
    ("qwen3moe", "moe_intermediate_size", -1, BadFile, "moe_intermediate_size"),
    ("qwen3moe", "mlp_only_layers", [0, 1, 2], BadFile, "experts"),
    ("qwen3moe", "decoder_sparse_step", 0, BadFile, "decoder_sparse_step"),
    ("gpt_oss", "swiglu_limit", 9.0, Unsupported, "swiglu_limit"),
    ("deepseek2", "n_group", 3, BadFile, "num_groups"),
    ("deepseek2", "topk_group", 5, BadFile, "top_groups"),
    ("deepseek2", "kv_lora_rank", 0, BadFile, "kv_lora_rank"),
    ("deepseek2", "qk_rope_head_dim", 15, BadFile, "rope_dims"),
    ("deepseek2", "first_k_dense_replace", 3, BadFile, "experts"),
    ("deepseek2-v3", "rope_interleave", False, Unsupported, "half-rotated"),
    ("granitemoe", "logits_scaling", 0, BadFile, "logits_scaling"),
    ("granitemoe", "embedding_multiplier", 0, BadFile, "embedding_scale"),
    ("granitemoe", "residual_multiplier", INF, BadFile, "residual_multiplier"),
]


OPTIONAL = (
    "rope_theta",
    "rope_scaling",
    "layer_types",
    "mlp_only_layers",
    "sliding_window",
    "head_dim",
    "quantization_config",
    "original_max_position_embeddings",
    "moe_layer_freq",
    "n_group",
)


def changed(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with one value changed; `a.b` reaches into an object."""
    outer, dot, inner = key.partition(".")
    if dot:
        return {**config, outer: changed(config[outer], inner, value)}
    copy = {**config, key: value}
    return {k: v for k, v in copy.items() if v is not MISSING}


@pytest.mark.parametrize(("name", "key", "value", "error", "named"), BAD_HF)
def test_a_broken_config_json_is_refused(
    name: str, key: str, value: Any, error: type[ApportionError], named: str
) -> None:
    family = name.split("-")[0]
    with pytest.raises(error) as caught:
        read_hf(family, FAMILIES.get(family), changed(tiny_hf_config(name), key, value))
    assert named in str(caught.value)
    assert len(str(caught.value)) < 500


BAD_GGUF = [
    ("llama", "llama.embedding_length", MISSING, BadFile, "llama.embedding_length"),
    ("llama", "llama.embedding_length", 0, BadFile, "llama.embedding_length"),
    ("llama", "llama.attention.head_count", 3, BadFile, "num_heads"),
    ("llama", "llama.attention.head_count", np.array([4, 4, 2]), Unsupported, "llama.attention.head_count"),
    ("llama", "llama.attention.head_count_kv", 3, BadFile, "num_kv_heads"),
    ("llama", "llama.attention.key_length", 0, BadFile, "llama.attention.key_length"),
    ("llama", "llama.block_count", 0, BadFile, "llama.block_count"),
    ("llama", "llama.block_count", "3", BadFile, "llama.block_count"),
    ("llama", "llama.rope.freq_base", 0.0, BadFile, "rope base"),
    ("llama", "llama.rope.freq_base", NAN, BadFile, "llama.rope.freq_base"),
    ("llama", "llama.rope.dimension_count", 18, BadFile, "rope_dims"),
    ("llama", "llama.rope.dimension_count", 15, BadFile, "rope_dims"),
    ("llama", "llama.rope.scaling.type", "spiral", Unsupported, "spiral"),
    ("llama", "llama.attention.layer_norm_rms_epsilon", MISSING, BadFile, "layer_norm_rms_epsilon"),
    ("llama", "llama.attention.scale", INF, BadFile, "llama.attention.scale"),
    ("llama", "llama.attention.scale", 0.0, BadFile, "attention_scale"),
    ("gemma3", "gemma3.attention.sliding_window_pattern", [True, False], BadFile, "window"),
    ("gemma3", "gemma3.attention.sliding_window_pattern", -2, BadFile, "sliding_window_pattern"),
    ("mixtral", "llama.expert_count", 10**9, BadFile, "num_experts"),
    ("mixtral", "llama.expert_used_count", 9, BadFile, "experts_per_token"),
    ("mixtral", "llama.expert_gating_func", 9, Unsupported, "gating"),
    ("deepseek2", "deepseek2.attention.kv_lora_rank", 0, BadFile, "kv_lora_rank"),
    ("deepseek2", "deepseek2.attention.key_length_mla", 8, BadFile, "head_dim"),
    ("deepseek2", "deepseek2.expert_group_count", 5, BadFile, "num_groups"),
    ("deepseek2", "deepseek2.leading_dense_block_count", 3, BadFile, "experts"),
    ("deepseek2", "deepseek2.nextn_predict_layers", 3, BadFile, "num_layers"),
    ("granitemoe", "granitemoe.logit_scale", 0.0, BadFile, "logit_scale"),
]


@pytest.mark.parametrize(("name", "key", "value", "error", "named"), BAD_GGUF)
def test_broken_gguf_metadata_is_refused(
    name: str, key: str, value: Any, error: type[ApportionError], named: str
) -> None:
    family = name.split("-")[0]
    metadata = {**gguf_metadata(tiny_config(name)), key: value}
    metadata = {k: v for k, v in metadata.items() if v is not MISSING}
    with pytest.raises(error) as caught:
        read_gguf(family, FAMILIES.get(family), metadata, {})
    assert named in str(caught.value)


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["yarn", "longrope", "linear", "sliding_attention"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=60, deadline=1000)
@given(data=st.data())
def test_whatever_stands_in_a_config_json_it_is_read_or_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(list(TINY)))
    config = tiny_hf_config(name)
    for key in data.draw(st.lists(st.sampled_from([*config, *OPTIONAL]), min_size=1, max_size=3)):
        config[key] = data.draw(JUNK)
    family = name.split("-")[0]
    with contextlib.suppress(ApportionError):
        assert isinstance(read_hf(family, FAMILIES.get(family), config), ModelConfig)


@settings(max_examples=60, deadline=1000)
@given(data=st.data())
def test_whatever_stands_in_gguf_metadata_it_is_read_or_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(IN_GGUF))
    config = tiny_config(name)
    metadata = gguf_metadata(config)
    for key in data.draw(st.lists(st.sampled_from(list(metadata)[2:]), min_size=1, max_size=3)):
        metadata[key] = data.draw(JUNK.filter(lambda value: not isinstance(value, dict)))
    with contextlib.suppress(ApportionError):
        read = read_gguf(config.family, FAMILIES.get(config.family), metadata, {})
        assert isinstance(read, ModelConfig)


@pytest.mark.parametrize("name", TINY)
def test_configurations_are_frozen_and_equal_when_read_again(name: str) -> None:
    config = tiny_config(name)
    assert config == tiny_config(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.vocab_size = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", [name for name in IN_GGUF if not name.startswith("phi3")])
def test_gguf_and_config_json_say_the_same(name: str) -> None:
    config = tiny_config(name)
    again = read_gguf(config.family, FAMILIES.get(config.family), gguf_metadata(config), {})
    stated_otherwise = {"tied_head", "rope", "structure"}  # rope_freqs.weight and biases are tensors
    for field in dataclasses.fields(ModelConfig):
        if field.name not in stated_otherwise:
            assert getattr(again, field.name) == pytest.approx(getattr(config, field.name)) or (
                getattr(again, field.name) == getattr(config, field.name)
            ), field.name


def test_one_value_per_layer_is_read_where_all_are_equal() -> None:
    metadata = gguf_metadata(tiny_config("llama"))
    metadata["llama.attention.head_count_kv"] = np.array([2, 2, 2], dtype=np.int32)
    assert read_gguf("llama", FAMILIES.get("llama"), metadata, {}).num_kv_heads == 2


def test_layers_for_predicting_further_tokens_are_not_counted() -> None:
    metadata = {**gguf_metadata(tiny_config("deepseek2")), "deepseek2.nextn_predict_layers": 1}
    assert read_gguf("deepseek2", FAMILIES.get("deepseek2"), metadata, {}).num_layers == 2


def test_older_config_json_says_rope_beside_its_scaling() -> None:
    config = tiny_hf_config("llama-scaled")
    parameters = dict(config.pop("rope_parameters"))
    config["rope_theta"] = parameters.pop("rope_theta")
    config["rope_scaling"] = {"type": parameters.pop("rope_type"), **parameters}
    assert read_hf("llama", FAMILIES.get("llama"), config) == tiny_config("llama-scaled")


def test_older_gemma3_config_json_says_its_local_rope_apart() -> None:
    config = tiny_hf_config("gemma3")
    config.pop("rope_parameters")
    config |= {
        "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }
    assert read_hf("gemma3", FAMILIES.get("gemma3"), config) == tiny_config("gemma3")


@pytest.mark.parametrize(("layers", "scale"), [(46, (64 / 4) ** -0.5), (3, 32**-0.5)])
def test_only_the_largest_gemma2_scales_scores_by_hidden_size(layers: int, scale: float) -> None:
    metadata = {**gguf_metadata(tiny_config("gemma2")), "gemma2.block_count": layers}
    for key in ("gemma2.attention.scale", "gemma2.attention.sliding_window_pattern"):
        metadata.pop(key)
    assert read_gguf("gemma2", FAMILIES.get("gemma2"), metadata, {}).attention_scale == pytest.approx(scale)


def test_early_qwen2moe_files_give_sizes_as_sums() -> None:
    metadata = gguf_metadata(tiny_config("qwen2moe"))
    for key in ("expert_feed_forward_length", "expert_shared_feed_forward_length"):
        metadata.pop(f"qwen2moe.{key}")
    experts = read_gguf("qwen2moe", FAMILIES.get("qwen2moe"), metadata, {}).experts
    assert experts is not None
    assert (experts.feed_forward_size, experts.shared_size) == (48, 96)


def test_early_gemma2_files_leave_out_window_and_soft_caps() -> None:
    metadata = gguf_metadata(tiny_config("gemma2"))
    for key in ("attention.sliding_window", "attn_logit_softcapping", "final_logit_softcapping"):
        metadata.pop(f"gemma2.{key}")
    config = read_gguf("gemma2", FAMILIES.get("gemma2"), metadata, {})
    assert config.windows == (4096, 0, 4096)
    assert (config.attention_softcap, config.logit_softcap) == (50.0, 30.0)


def test_a_null_soft_cap_is_none() -> None:
    config = {**tiny_hf_config("gemma2"), "attn_logit_softcapping": None}
    assert read_hf("gemma2", FAMILIES.get("gemma2"), config).attention_softcap == 0.0
