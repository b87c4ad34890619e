"""A model's configuration from a GGUF file's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from apportion.core.errors import Unsupported
from apportion.formats.checkpoint import TensorInfo
from apportion.kernels.ops import Routing
from apportion.models.config import LIMITS, Experts, LatentAttention, ModelConfig, Rope, RopeScaling
from apportion.models.family import Family
from apportion.models.fields import Fields
from apportion.models.rope import yarn_magnitude

GATING: dict[int, Literal["softmax", "sigmoid", "softmax_topk"]] = {
    1: "softmax",
    2: "sigmoid",
    3: "softmax_topk",
}


def read_gguf(
    name: str, family: Family, metadata: Mapping[str, Any], tensors: Mapping[str, TensorInfo]
) -> ModelConfig:
    """
    Raises:
        BadFile: a value is missing, of the wrong type, out of range, or contradicts another.
        Unsupported: the file asks for something that the family does not have.
    """
    fields = Fields(metadata, f"{metadata['general.architecture']}.")
    hidden_size, num_heads = fields.count("embedding_length"), fields.count("attention.head_count")
    latent = _latent(fields)
    head_dim = fields.count("attention.key_length", default=max(1, hidden_size // num_heads))
    if latent is not None:
        head_dim = latent.nope_dim + latent.rope_dim
    num_layers = fields.count("block_count", most=LIMITS["num_layers"]) - fields.count(
        "nextn_predict_layers", default=0, least=0
    )
    rope = Rope(
        base=fields.number("rope.freq_base", default=10000.0),
        dims=fields.count("rope.dimension_count", default=head_dim),
        scaling=_rope_scaling(fields, tensors),
    )
    values: dict[str, Any] = {
        "family": name,
        "structure": family.structure,
        "vocab_size": _vocab_size(fields, metadata, tensors),
        "context_length": fields.count("context_length"),
        "num_layers": num_layers,
        "hidden_size": hidden_size,
        "feed_forward_size": fields.count("feed_forward_length", default=0, least=0),
        "num_heads": num_heads,
        "num_kv_heads": 1 if latent else fields.count("attention.head_count_kv", default=num_heads),
        "head_dim": head_dim,
        "value_dim": latent.value_dim if latent else fields.count("attention.value_length", default=head_dim),
        "norm_eps": fields.number("attention.layer_norm_rms_epsilon"),
        "rope": rope,
        "local_rope": _local_rope(fields, family, rope),
        "windows": _windows(fields, family, num_layers),
        "attention_scale": fields.number("attention.scale", default=head_dim**-0.5),
        "attention_softcap": fields.number("attn_logit_softcapping", default=0.0),
        "logit_softcap": fields.number("final_logit_softcapping", default=0.0),
        "qkv_clip": fields.number("attention.clamp_kqv", default=0.0),
        "embedding_scale": hidden_size**0.5 if family.scales_embedding else 1.0,
        "latent": latent,
    }
    if family.routing is not None:
        values["experts"] = _experts(fields, family.routing, num_layers)
    family.from_gguf(fields, values)
    return ModelConfig(**values)


def _vocab_size(fields: Fields, metadata: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> int:
    """As many tokens as the file lists; files without a tokenizer state it, or show it in the embedding."""
    tokens = metadata.get("tokenizer.ggml.tokens")
    if tokens is not None and len(tokens):
        return len(tokens)
    embedding = tensors.get("token_embd.weight")
    return fields.count("vocab_size", default=embedding.shape[0] if embedding else None)


def _rope_scaling(fields: Fields, tensors: Mapping[str, TensorInfo]) -> RopeScaling:
    kind = fields.text("rope.scaling.type", default="none")
    factor = fields.number("rope.scaling.factor", "rope.scale_linear", default=1.0)
    original = fields.count("rope.scaling.original_context_length", default=fields.count("context_length"))
    attention_factor = fields.number("rope.scaling.attn_factor", default=1.0)
    if "rope_factors_long.weight" in tensors:
        return RopeScaling("longrope", original_context=original, attention_factor=attention_factor)
    if kind == "yarn":
        # Where the file states a multiplier, magnitude is a matter of the score's scale instead.
        magnitude = 1.0 if fields.has("rope.scaling.yarn_log_multiplier") else yarn_magnitude(factor)
        return RopeScaling(
            "yarn",
            factor=factor,
            original_context=original,
            beta_fast=fields.number("rope.scaling.yarn_beta_fast", default=32.0),
            beta_slow=fields.number("rope.scaling.yarn_beta_slow", default=1.0),
            attention_factor=magnitude * attention_factor,
        )
    if kind not in ("none", "linear", "longrope"):
        raise Unsupported(f"the rope scaling {kind!r} is not known", key="rope.scaling.type")
    return RopeScaling("linear" if factor != 1 else "none", factor=factor)


def _local_rope(fields: Fields, family: Family, rope: Rope) -> Rope | None:
    """The rope of layers with a window, where the family or the file gives them one of their own:
    unscaled.
    """
    base = fields.number("rope.freq_base_swa", default=family.local_rope_base)
    if not base or (not family.local_rope_base and base == rope.base):
        return None
    return Rope(base, rope.dims)


def _windows(fields: Fields, family: Family, num_layers: int) -> tuple[int, ...]:
    window = fields.count("attention.sliding_window", default=0, least=0)
    pattern = fields.raw("attention.sliding_window_pattern")
    if pattern is not None and not isinstance(pattern, int):
        flags = fields.items("attention.sliding_window_pattern")
        return tuple(window if flag else 0 for flag in flags)
    full_every = fields.count("attention.sliding_window_pattern", default=family.full_every, least=0)
    return windows_by_period(window, full_every, num_layers)


def windows_by_period(window: int, full_every: int, num_layers: int) -> tuple[int, ...]:
    """Every `full_every`-th layer sees everything, the others the window; 0: all see the window."""
    return tuple(0 if full_every and (i + 1) % full_every == 0 else window for i in range(num_layers))


def _latent(fields: Fields) -> LatentAttention | None:
    """Newer files state the heads' sizes after unfolding (`_mla`), older ones as the plain sizes."""
    if not fields.has("attention.kv_lora_rank"):
        return None
    rope_dim = fields.count("rope.dimension_count")
    head_dim = fields.count("attention.key_length_mla", "attention.key_length")
    return LatentAttention(
        q_rank=fields.count("attention.q_lora_rank", default=0, least=0),
        kv_rank=fields.count("attention.kv_lora_rank"),
        nope_dim=head_dim - rope_dim,
        rope_dim=rope_dim,
        value_dim=fields.count("attention.value_length_mla", "attention.value_length"),
    )


def _experts(fields: Fields, routing: Routing, num_layers: int) -> Experts:
    size = fields.count("expert_feed_forward_length", "feed_forward_length")
    score = routing.score
    gating = fields.count("expert_gating_func", default=0, least=0)
    if gating:
        if gating not in GATING:
            raise Unsupported(f"the expert gating function {gating} is not known", key="expert_gating_func")
        score = GATING[gating]
    num_dense = fields.count("leading_dense_block_count", default=0, least=0)
    shared = fields.count("expert_shared_count", default=0, least=0) * size
    num_groups = fields.count("expert_group_count", default=1, least=0) or 1
    return Experts(
        num_experts=fields.count("expert_count"),
        feed_forward_size=size,
        routing=replace(
            routing,
            top_k=fields.count("expert_used_count"),
            score=score,
            normalize=fields.flag("expert_weights_norm", default=routing.normalize),
            scale=fields.number("expert_weights_scale", default=1.0) or 1.0,
            num_groups=num_groups,
            top_groups=fields.count("expert_group_used_count", default=num_groups, least=0) or num_groups,
            group_score="top2" if score == "sigmoid" else "max",
        ),
        layers=tuple(i >= num_dense for i in range(num_layers)),
        shared_size=fields.count("expert_shared_feed_forward_length", default=shared, least=0),
    )
