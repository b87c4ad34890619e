"""A loaded model's weights, by the part of the forward pass that uses them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from apportion._native import ExpertTable
from apportion.formats.block import Floats
from apportion.kernels.ops import ExpertWeights
from apportion.kernels.residency import Residency
from apportion.kernels.weight import Weight
from apportion.models.config import ModelConfig


@dataclass(frozen=True, slots=True, eq=False)
class AttentionWeights:
    """Projections of ordinary attention; biases and norms where the model has them."""

    q: Weight
    k: Weight
    v: Weight
    out: Weight
    q_bias: Floats | None = None
    k_bias: Floats | None = None
    v_bias: Floats | None = None
    out_bias: Floats | None = None
    q_norm: Floats | None = None
    k_norm: Floats | None = None
    sinks: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LatentWeights:
    """Projections of latent attention: `k_b` [A, rank, nope] takes queries to the latent, `v_b` [A, value,
    rank] takes the attended latent to values.
    """

    q: Weight  # from the hidden state, or from the queries' latent where q_a is there
    kv_a: Weight
    kv_a_norm: Floats
    k_b: Weight
    v_b: Weight
    out: Weight
    q_a: Weight | None = None
    q_a_norm: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class DenseWeights:
    """A gated feed-forward that every token passes."""

    gate: Weight
    up: Weight
    down: Weight


@dataclass(frozen=True, slots=True, eq=False)
class MoeWeights:
    """A mixture of experts. The experts themselves are reached through `Model.experts_of` only."""

    router: Weight
    experts: ExpertWeights
    router_bias: Floats | None = None
    choice_bias: Floats | None = None
    shared: DenseWeights | None = None
    shared_gate: Weight | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LayerWeights:
    """One layer."""

    attn_norm: Floats
    attention: AttentionWeights | LatentWeights
    ffn_norm: Floats
    feed_forward: DenseWeights | MoeWeights
    post_attention_norm: Floats | None = None
    post_ffn_norm: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ModelWeights:
    """The whole model. `head` is the embedding itself where the two are tied."""

    embedding: Weight
    layers: tuple[LayerWeights, ...]
    output_norm: Floats
    head: Weight
    rope_divisors: Mapping[str, Floats]  # `freqs`, or `short` and `long`


class Tensors:
    """Loaded canonical tensors by name."""

    def __init__(
        self, matrices: Mapping[str, Weight], vectors: Mapping[str, Floats], prefix: str = ""
    ) -> None:
        self._matrices = matrices
        self._vectors = vectors
        self._prefix = prefix

    def layer(self, layer: int) -> Tensors:
        """The tensors of one layer, to be asked for without `blk.N.`."""
        return Tensors(self._matrices, self._vectors, f"blk.{layer}.")

    def matrix(self, name: str) -> Weight:
        return self._matrices[f"{self._prefix}{name}.weight"]

    def maybe_matrix(self, name: str) -> Weight | None:
        return self._matrices.get(f"{self._prefix}{name}.weight")

    def vector(self, name: str) -> Floats:
        return self._vectors[f"{self._prefix}{name}.weight"]

    def maybe_vector(self, name: str) -> Floats | None:
        return self._vectors.get(f"{self._prefix}{name}.weight")

    def bias(self, name: str) -> Floats | None:
        return self._vectors.get(f"{self._prefix}{name}.bias")


def assemble(config: ModelConfig, tensors: Tensors, residency: Residency | None = None) -> ModelWeights:
    """Put loaded tensors to their places; all required ones are there.

    Args:
        residency: knows where the experts are that come and go.
    """
    tables = [None if residency is None else residency.expert_table(i) for i in range(config.num_layers)]
    embedding = tensors.matrix("token_embd")
    names = {"freqs": "rope_freqs", "short": "rope_factors_short", "long": "rope_factors_long"}
    divisors = {key: tensors.maybe_vector(name) for key, name in names.items()}
    return ModelWeights(
        embedding=embedding,
        layers=tuple(_layer(config, tensors.layer(i), i, table) for i, table in enumerate(tables)),
        output_norm=tensors.vector("output_norm"),
        head=tensors.maybe_matrix("output") or embedding,
        rope_divisors={key: value for key, value in divisors.items() if value is not None},
    )


def _layer(config: ModelConfig, tensors: Tensors, layer: int, table: ExpertTable | None) -> LayerWeights:
    latent = config.latent is not None
    return LayerWeights(
        attn_norm=tensors.vector("attn_norm"),
        attention=_latent(tensors) if latent else _attention(tensors),
        ffn_norm=tensors.vector("ffn_norm"),
        feed_forward=_moe(tensors, table) if config.has_experts(layer) else _dense(tensors, ""),
        post_attention_norm=tensors.maybe_vector("post_attention_norm"),
        post_ffn_norm=tensors.maybe_vector("post_ffw_norm"),
    )


def _attention(tensors: Tensors) -> AttentionWeights:
    return AttentionWeights(
        q=tensors.matrix("attn_q"),
        k=tensors.matrix("attn_k"),
        v=tensors.matrix("attn_v"),
        out=tensors.matrix("attn_output"),
        q_bias=tensors.bias("attn_q"),
        k_bias=tensors.bias("attn_k"),
        v_bias=tensors.bias("attn_v"),
        out_bias=tensors.bias("attn_output"),
        q_norm=tensors.maybe_vector("attn_q_norm"),
        k_norm=tensors.maybe_vector("attn_k_norm"),
        sinks=tensors.maybe_vector("attn_sinks"),
    )


def _latent(tensors: Tensors) -> LatentWeights:
    q_a = tensors.maybe_matrix("attn_q_a")
    return LatentWeights(
        q=tensors.matrix("attn_q") if q_a is None else tensors.matrix("attn_q_b"),
        kv_a=tensors.matrix("attn_kv_a_mqa"),
        kv_a_norm=tensors.vector("attn_kv_a_norm"),
        k_b=tensors.matrix("attn_k_b"),
        v_b=tensors.matrix("attn_v_b"),
        out=tensors.matrix("attn_output"),
        q_a=q_a,
        q_a_norm=tensors.maybe_vector("attn_q_a_norm"),
    )


def _dense(tensors: Tensors, suffix: str) -> DenseWeights:
    gate, up, down = (tensors.matrix(f"ffn_{name}{suffix}") for name in ("gate", "up", "down"))
    return DenseWeights(gate, up, down)


def _moe(tensors: Tensors, table: ExpertTable | None) -> MoeWeights:
    gate, up, down = (tensors.matrix(f"ffn_{name}_exps") for name in ("gate", "up", "down"))
    gate_bias, up_bias, down_bias = (tensors.bias(f"ffn_{name}_exps") for name in ("gate", "up", "down"))
    shared = tensors.maybe_matrix("ffn_gate_shexp") is not None
    return MoeWeights(
        router=tensors.matrix("ffn_gate_inp"),
        experts=ExpertWeights(gate, up, down, gate_bias, up_bias, down_bias, table),
        router_bias=tensors.bias("ffn_gate_inp"),
        choice_bias=tensors.bias("exp_probs_b"),
        shared=_dense(tensors, "_shexp") if shared else None,
        shared_gate=tensors.maybe_matrix("ffn_gate_inp_shexp"),
    )
