"""A model's configuration from the `config.json` of a Hugging Face folder."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from apportion.core.errors import BadFile, Unsupported
from apportion.kernels.ops import Routing
from apportion.models.config import LIMITS, Experts, LatentAttention, ModelConfig, Rope, Structure
from apportion.models.family import Family
from apportion.models.fields import Fields
from apportion.models.read_gguf import windows_by_period
from apportion.models.read_hf_rope import read_ropes
from apportion.models.rope import yarn_score_scale

ACTIVATIONS = {"silu": "silu", "gelu_tanh": "gelu_pytorch_tanh", "swiglu_oai": "silu"}
WINDOWED = {"sliding_attention": True, "full_attention": False}


def read_hf(name: str, family: Family, config: Mapping[str, Any]) -> ModelConfig:
    """
    Raises:
        BadFile: a value is missing, of the wrong type, out of range, or contradicts another.
        Unsupported: the configuration asks for something that the family does not have.
    """
    fields = Fields(ChainMap(dict(config), dict(family.defaults)))
    _check_choices(fields, family)
    hidden_size, num_heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    num_layers = fields.count("num_hidden_layers", most=LIMITS["num_layers"])
    latent = _latent(fields)
    head_dim = latent.nope_dim + latent.rope_dim if latent else _head_dim(fields, hidden_size, num_heads)
    rope, local_rope = read_ropes(fields, family, latent.rope_dim if latent else head_dim)
    values: dict[str, Any] = {
        "family": name,
        "structure": _structure(fields, family),
        "vocab_size": fields.count("vocab_size"),
        "context_length": fields.count("max_position_embeddings"),
        "num_layers": num_layers,
        "hidden_size": hidden_size,
        "feed_forward_size": fields.count("intermediate_size"),
        "num_heads": num_heads,
        "num_kv_heads": 1 if latent else fields.count("num_key_value_heads", default=num_heads),
        "head_dim": head_dim,
        "value_dim": latent.value_dim if latent else head_dim,
        "norm_eps": fields.number("rms_norm_eps", default=1e-6),
        "rope": rope,
        "local_rope": local_rope,
        "windows": _windows(fields, family, num_layers),
        "attention_scale": _attention_scale(fields, head_dim, latent, rope),
        "attention_softcap": fields.number("attn_logit_softcapping", default=0.0),
        "logit_softcap": fields.number("final_logit_softcapping", default=0.0),
        "qkv_clip": fields.number("clip_qkv", default=0.0),
        "embedding_scale": hidden_size**0.5 if family.scales_embedding else 1.0,
        "latent": latent,
        "tied_head": fields.flag("tie_word_embeddings") if fields.has("tie_word_embeddings") else None,
    }
    if family.routing is not None:
        values["experts"] = _experts(fields, family.routing, num_layers)
    family.from_hf(fields, values)
    return ModelConfig(**values)


def _check_choices(fields: Fields, family: Family) -> None:
    wanted = ACTIVATIONS[family.structure.activation]
    activation = fields.text("hidden_activation", "hidden_act", default=wanted)
    if activation != wanted:
        raise Unsupported(
            f"the activation {activation!r} is not run", f"this family has {wanted!r}", key="hidden_act"
        )
    method = fields.section("quantization_config").text("quant_method", default="")
    if method and method != family.stored_quantization:
        raise Unsupported(
            f"weights quantized with {method!r} are not read",
            "only plain numbers are read from safetensors",
            "use a GGUF file of this model, or its unquantized folder",
            key="quantization_config",
        )


def _structure(fields: Fields, family: Family) -> Structure:
    if fields.flag("attention_bias", default=False) and not fields.has("kv_lora_rank"):
        return replace(family.structure, qkv_bias=True)
    return family.structure


def _head_dim(fields: Fields, hidden_size: int, num_heads: int) -> int:
    if fields.has("head_dim"):
        return fields.count("head_dim")
    if hidden_size % num_heads:
        raise BadFile(
            "the model's configuration is broken",
            "'num_attention_heads' does not divide 'hidden_size', and 'head_dim' is not given",
            "obtain the model anew",
            num_attention_heads=num_heads,
            hidden_size=hidden_size,
        )
    return hidden_size // num_heads


def _latent(fields: Fields) -> LatentAttention | None:
    if not fields.has("kv_lora_rank"):
        return None
    if not fields.flag("rope_interleave", default=True):
        raise Unsupported("latent attention with half-rotated heads is not run", key="rope_interleave")
    return LatentAttention(
        q_rank=fields.count("q_lora_rank", default=0, least=0),
        kv_rank=fields.count("kv_lora_rank"),
        nope_dim=fields.count("qk_nope_head_dim"),
        rope_dim=fields.count("qk_rope_head_dim"),
        value_dim=fields.count("v_head_dim"),
    )


def _attention_scale(fields: Fields, head_dim: int, latent: LatentAttention | None, rope: Rope) -> float:
    if fields.has("query_pre_attn_scalar"):
        scalar = fields.number("query_pre_attn_scalar")
        if scalar <= 0:
            raise BadFile("'query_pre_attn_scalar' must be positive", value=scalar)
        return float(scalar**-0.5)
    scale = float(head_dim**-0.5)
    if latent is None:
        return scale
    weight = fields.section("rope_parameters", "rope_scaling").number("mscale_all_dim", default=0.0)
    return scale * yarn_score_scale(rope.scaling, weight)


def _windows(fields: Fields, family: Family, num_layers: int) -> tuple[int, ...]:
    window = fields.count("sliding_window", default=0, least=0)
    if not fields.flag("use_sliding_window", default=True):
        window = 0
    types = fields.items("layer_types")
    if types:
        if unknown := [kind for kind in types if not isinstance(kind, str) or kind not in WINDOWED]:
            raise Unsupported(f"layers of the type {unknown[0]!r} are not run", key="layer_types")
        return tuple(window if WINDOWED[kind] else 0 for kind in types)
    if fields.has("max_window_layers") and fields.has("use_sliding_window"):
        first = fields.count("max_window_layers", least=0)
        return tuple(window if i >= first else 0 for i in range(num_layers))
    full_every = fields.count("sliding_window_pattern", default=family.full_every, least=0)
    return windows_by_period(window, full_every, num_layers)


def _experts(fields: Fields, routing: Routing, num_layers: int) -> Experts:
    size = fields.count("moe_intermediate_size", "intermediate_size")
    shared = fields.count("n_shared_experts", default=0, least=0) * size
    num_groups = fields.count("n_group", default=1, least=0) or 1
    return Experts(
        num_experts=fields.count("num_local_experts", "num_experts", "n_routed_experts"),
        feed_forward_size=size,
        routing=replace(
            routing,
            top_k=fields.count("num_experts_per_tok"),
            normalize=fields.flag("norm_topk_prob", default=routing.normalize),
            scale=fields.number("routed_scaling_factor", default=1.0),
            num_groups=num_groups,
            top_groups=fields.count("topk_group", default=num_groups, least=0) or num_groups,
        ),
        layers=_expert_layers(fields, num_layers),
        shared_size=fields.count("shared_expert_intermediate_size", default=shared, least=0),
    )


def _expert_layers(fields: Fields, num_layers: int) -> tuple[bool, ...]:
    dense = fields.whole_numbers("mlp_only_layers")
    step = fields.count("decoder_sparse_step", default=1)
    first = fields.count("first_k_dense_replace", default=0, least=0)
    every = fields.count("moe_layer_freq", default=1)
    return tuple(
        i not in dense and (i + 1) % step == 0 and i >= first and i % every == 0 for i in range(num_layers)
    )
