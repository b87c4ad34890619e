"""Templates: the words in which families say where a canonical tensor lies in a folder of safetensors."""

from __future__ import annotations

from collections.abc import Callable

from apportion.models.config import ModelConfig
from apportion.models.family import Template, Templates
from apportion.models.recipes import (
    Each,
    HeadTransposed,
    Interleaved,
    PlusOne,
    Recipe,
    Run,
    Stack,
    Whole,
    value_heads,
)


def stored(name: str) -> tuple[Template, ...]:
    """The stored tensor of this name, as it is."""
    return (lambda config, prefix: Whole(prefix + name),)


def plus_one(name: str) -> tuple[Template, ...]:
    """The stored vector plus one."""
    return (lambda config, prefix: PlusOne(prefix + name),)


def interleaved(name: str, heads: str) -> tuple[Template, ...]:
    """Stored rows of heads, as many as the configuration's field `heads` says, in GGUF's rotary order."""

    def make(config: ModelConfig, prefix: str) -> Recipe:
        return Interleaved(Whole(prefix + name), getattr(config, heads), config.rope.dims)

    return (make,)


def per_expert(name: str) -> tuple[Template, ...]:
    """One stored matrix per expert; `{}` in the name stands for the expert's number."""

    def make(config: ModelConfig, prefix: str) -> Recipe:
        assert config.experts is not None
        return Stack(tuple(Whole(prefix + name.format(e)) for e in range(config.experts.num_experts)))

    return (make,)


def gate_half(name: str) -> tuple[Template, ...]:
    """The first half of the rows of each matrix in a stored stack [E, 2F, K]."""

    def make(config: ModelConfig, prefix: str) -> Recipe:
        assert config.experts is not None
        size = config.experts.feed_forward_size
        return Each(prefix + name, 0, size, 2 * size)

    return (make,)


def up_half(name: str) -> tuple[Template, ...]:
    """The second half of the rows of each matrix in a stored stack [E, 2F, K]."""

    def make(config: ModelConfig, prefix: str) -> Recipe:
        assert config.experts is not None
        size = config.experts.feed_forward_size
        return Each(prefix + name, size, 2 * size, 2 * size)

    return (make,)


def fused(name: str, part: int, sizes: Callable[[ModelConfig], tuple[int, ...]]) -> tuple[Template, ...]:
    """One of several projections whose rows lie one after the other in a stored tensor."""

    def make(config: ModelConfig, prefix: str) -> Recipe:
        rows = sizes(config)
        start = sum(rows[:part])
        return Run(prefix + name, start, start + rows[part], sum(rows))

    return (make,)


def joint_keys(name: str) -> tuple[Template, ...]:
    """The keys' part of latent attention's joint projection, per head and transposed."""

    def make(config: ModelConfig, prefix: str) -> Recipe:
        assert config.latent is not None
        return HeadTransposed(
            prefix + name, config.num_heads, config.latent.nope_dim, config.latent.value_dim
        )

    return (make,)


def joint_values(name: str) -> tuple[Template, ...]:
    """The values' part of latent attention's joint projection, per head."""

    def make(config: ModelConfig, prefix: str) -> Recipe:
        assert config.latent is not None
        return value_heads(prefix + name, config.num_heads, config.latent.nope_dim, config.latent.value_dim)

    return (make,)


NORMS: Templates = {
    "attn_norm.weight": stored("input_layernorm.weight"),
    "ffn_norm.weight": stored("post_attention_layernorm.weight"),
}

ATTENTION: Templates = {
    "attn_q.weight": stored("self_attn.q_proj.weight"),
    "attn_k.weight": stored("self_attn.k_proj.weight"),
    "attn_v.weight": stored("self_attn.v_proj.weight"),
    "attn_output.weight": stored("self_attn.o_proj.weight"),
    "attn_q.bias": stored("self_attn.q_proj.bias"),
    "attn_k.bias": stored("self_attn.k_proj.bias"),
    "attn_v.bias": stored("self_attn.v_proj.bias"),
    "attn_output.bias": stored("self_attn.o_proj.bias"),
}

INTERLEAVED_ATTENTION: Templates = {
    **ATTENTION,
    "attn_q.weight": interleaved("self_attn.q_proj.weight", "num_heads"),
    "attn_k.weight": interleaved("self_attn.k_proj.weight", "num_kv_heads"),
    "attn_q.bias": interleaved("self_attn.q_proj.bias", "num_heads"),
    "attn_k.bias": interleaved("self_attn.k_proj.bias", "num_kv_heads"),
}

QK_NORMS: Templates = {
    "attn_q_norm.weight": stored("self_attn.q_norm.weight"),
    "attn_k_norm.weight": stored("self_attn.k_norm.weight"),
}

FEED_FORWARD: Templates = {
    "ffn_gate.weight": stored("mlp.gate_proj.weight"),
    "ffn_up.weight": stored("mlp.up_proj.weight"),
    "ffn_down.weight": stored("mlp.down_proj.weight"),
}

# The hub's folders hold one matrix per expert; folders that were saved as they lie in memory hold stacks.
EXPERTS: Templates = {
    "ffn_gate_inp.weight": stored("mlp.gate.weight"),
    "ffn_gate_exps.weight": per_expert("mlp.experts.{}.gate_proj.weight")
    + gate_half("mlp.experts.gate_up_proj"),
    "ffn_up_exps.weight": per_expert("mlp.experts.{}.up_proj.weight") + up_half("mlp.experts.gate_up_proj"),
    "ffn_down_exps.weight": per_expert("mlp.experts.{}.down_proj.weight") + stored("mlp.experts.down_proj"),
}

TOP: Templates = {
    "token_embd.weight": stored("embed_tokens.weight"),
    "output_norm.weight": stored("norm.weight"),
}

GEMMA_NORMS: Templates = {
    "attn_norm.weight": plus_one("input_layernorm.weight"),
    "post_attention_norm.weight": plus_one("post_attention_layernorm.weight"),
    "ffn_norm.weight": plus_one("pre_feedforward_layernorm.weight"),
    "post_ffw_norm.weight": plus_one("post_feedforward_layernorm.weight"),
}

GEMMA_QK_NORMS: Templates = {
    "attn_q_norm.weight": plus_one("self_attn.q_norm.weight"),
    "attn_k_norm.weight": plus_one("self_attn.k_norm.weight"),
}

GEMMA_TOP: Templates = {**TOP, "output_norm.weight": plus_one("norm.weight")}
