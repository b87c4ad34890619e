"""The canonical tensors of a model: GGUF's names, and the shape that each must have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from apportion.models.config import Experts, LatentAttention, ModelConfig


@dataclass(frozen=True, slots=True)
class Slot:
    """One canonical tensor.

    Attributes:
        name: e.g. `blk.3.attn_q.weight`.
        shape: row-major; the last dimension is contiguous.
        kind: a `matrix` (or stack of them) keeps its block format, a `vector` becomes float32.
        required: a checkpoint without it is broken.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["matrix", "vector"] = "matrix"
    required: bool = True


def layer_of(name: str) -> tuple[int | None, str]:
    """The layer that a canonical tensor belongs to, and its name there; None where it belongs to none."""
    if not name.startswith("blk."):
        return None, name
    _, layer, local = name.split(".", 2)
    return int(layer), local


def is_expert_matrix(local: str) -> bool:
    """Whether this is a stack of matrices, one for each expert of a layer."""
    return local.endswith("_exps.weight")


def canonical_slots(config: ModelConfig) -> list[Slot]:
    """Every tensor that a model of this configuration can have, in layer order."""
    hidden, pairs = config.hidden_size, config.rope.dims // 2
    slots = [
        Slot("token_embd.weight", (config.vocab_size, hidden)),
        Slot("output_norm.weight", (hidden,), "vector"),
        Slot("output.weight", (config.vocab_size, hidden), required=config.tied_head is False),
    ]
    if config.tied_head:
        slots.pop()
    if config.rope.scaling.kind == "longrope":
        slots.append(Slot("rope_factors_short.weight", (pairs,), "vector"))
        slots.append(Slot("rope_factors_long.weight", (pairs,), "vector"))
    else:
        slots.append(Slot("rope_freqs.weight", (pairs,), "vector", required=False))
    for layer in range(config.num_layers):
        slots += [
            Slot(f"blk.{layer}.{slot.name}", slot.shape, slot.kind, slot.required)
            for slot in layer_slots(config, layer)
        ]
    return slots


def layer_slots(config: ModelConfig, layer: int) -> Iterator[Slot]:
    """The tensors of one layer, named without their `blk.N.`."""
    yield Slot("attn_norm.weight", (config.hidden_size,), "vector")
    if config.latent is not None:
        yield from _latent_slots(config, config.latent)
    else:
        yield from _attention_slots(config)
    if config.structure.post_norms:
        yield Slot("post_attention_norm.weight", (config.hidden_size,), "vector")
    yield Slot("ffn_norm.weight", (config.hidden_size,), "vector")
    if config.experts is not None and config.has_experts(layer):
        yield from _expert_slots(config, config.experts)
    else:
        yield from _dense_slots("", config.hidden_size, config.feed_forward_size)
    if config.structure.post_norms:
        yield Slot("post_ffw_norm.weight", (config.hidden_size,), "vector")


def _attention_slots(config: ModelConfig) -> Iterator[Slot]:
    widths = {"q": config.q_width, "k": config.k_width, "v": config.v_width}
    out_width = config.num_heads * config.value_dim
    for name, width in widths.items():
        yield Slot(f"attn_{name}.weight", (width, config.hidden_size))
    yield Slot("attn_output.weight", (config.hidden_size, out_width))
    for name, width in widths.items():
        yield Slot(f"attn_{name}.bias", (width,), "vector", required=config.structure.qkv_bias)
    yield Slot("attn_output.bias", (config.hidden_size,), "vector", required=False)
    if config.structure.qk_norm != "none":
        per_head = config.structure.qk_norm == "head"
        yield Slot("attn_q_norm.weight", (config.head_dim if per_head else config.q_width,), "vector")
        yield Slot("attn_k_norm.weight", (config.head_dim if per_head else config.k_width,), "vector")
    if config.structure.sinks:
        yield Slot("attn_sinks.weight", (config.num_heads,), "vector")


def _latent_slots(config: ModelConfig, latent: LatentAttention) -> Iterator[Slot]:
    hidden, heads = config.hidden_size, config.num_heads
    if latent.q_rank:
        yield Slot("attn_q_a.weight", (latent.q_rank, hidden))
        yield Slot("attn_q_a_norm.weight", (latent.q_rank,), "vector")
        yield Slot("attn_q_b.weight", (config.q_width, latent.q_rank))
    else:
        yield Slot("attn_q.weight", (config.q_width, hidden))
    yield Slot("attn_kv_a_mqa.weight", (latent.kv_rank + latent.rope_dim, hidden))
    yield Slot("attn_kv_a_norm.weight", (latent.kv_rank,), "vector")
    yield Slot("attn_k_b.weight", (heads, latent.kv_rank, latent.nope_dim))
    yield Slot("attn_v_b.weight", (heads, latent.value_dim, latent.kv_rank))
    yield Slot("attn_output.weight", (hidden, heads * latent.value_dim))


def _dense_slots(suffix: str, hidden: int, size: int) -> Iterator[Slot]:
    yield Slot(f"ffn_gate{suffix}.weight", (size, hidden))
    yield Slot(f"ffn_up{suffix}.weight", (size, hidden))
    yield Slot(f"ffn_down{suffix}.weight", (hidden, size))


def _expert_slots(config: ModelConfig, experts: Experts) -> Iterator[Slot]:
    hidden, size, count = config.hidden_size, experts.feed_forward_size, experts.num_experts
    biased = config.structure.expert_bias
    yield Slot("ffn_gate_inp.weight", (count, hidden))
    if biased:
        yield Slot("ffn_gate_inp.bias", (count,), "vector")
    if experts.routing.score == "sigmoid":
        yield Slot("exp_probs_b.bias", (count,), "vector")
    yield Slot("ffn_gate_exps.weight", (count, size, hidden))
    yield Slot("ffn_up_exps.weight", (count, size, hidden))
    yield Slot("ffn_down_exps.weight", (count, hidden, size))
    if biased:
        yield Slot("ffn_gate_exps.bias", (count, size), "vector")
        yield Slot("ffn_up_exps.bias", (count, size), "vector")
        yield Slot("ffn_down_exps.bias", (count, hidden), "vector")
    if experts.shared_size:
        yield from _dense_slots("_shexp", hidden, experts.shared_size)
        if config.structure.shared_gate:
            yield Slot("ffn_gate_inp_shexp.weight", (1, hidden))
