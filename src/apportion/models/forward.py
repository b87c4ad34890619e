"""The forward pass: one for every family. What differs between families stands in the configuration.

It is written in the steps of `kernels.steps`, which a backend does at once or records.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from apportion.formats.block import Floats
from apportion.kernels.ops import ExpertWeights
from apportion.kernels.steps import Attention, Product, Rotary, Steps
from apportion.models.config import LatentAttention, ModelConfig
from apportion.models.rope import inverse_frequencies
from apportion.models.weights import AttentionWeights, DenseWeights, LatentWeights, ModelWeights, MoeWeights

V = TypeVar("V")


class ForwardPass:
    """`kernels.steps.Forward` of a model.

    Args:
        experts_of: the experts of a layer: the one place where the forward pass asks for them.
        long_context: rotate by LongRoPE's long factors, for a model that has them.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        experts_of: Callable[[int], ExpertWeights],
        long_context: bool = False,
    ) -> None:
        self.config = config
        self.weights = weights
        self._experts_of = experts_of
        self._rotary = self._global_rotary(long_context)
        self._local_rotary = self._rotary
        if config.local_rope is not None:
            self._local_rotary = Rotary(
                inverse_frequencies(config.local_rope),
                config.structure.rope_style,
                config.local_rope.scaling.attention_factor,
            )

    @property
    def num_layers(self) -> int:
        return self.config.num_layers

    @property
    def hidden_size(self) -> int:
        return self.config.hidden_size

    @property
    def vocab_size(self) -> int:
        return self.config.vocab_size

    def embed(self, steps: Steps[V]) -> V:
        return steps.embed(self.weights.embedding, self.config.embedding_scale)

    def layer(self, steps: Steps[V], layer: int, x: V) -> V:
        weights, eps = self.weights.layers[layer], self.config.norm_eps
        y = steps.rms_norm(x, weights.attn_norm, eps)
        if isinstance(weights.attention, LatentWeights):
            y, out = self._attend_latent(steps, layer, weights.attention, y), Product(weights.attention.out)
        else:
            y = self._attend(steps, layer, weights.attention, y)
            out = Product(weights.attention.out, weights.attention.out_bias)
        x = self._add_product(steps, x, y, out, weights.post_attention_norm)

        y = steps.rms_norm(x, weights.ffn_norm, eps)
        if isinstance(weights.feed_forward, MoeWeights):
            y = self._mix_experts(steps, layer, weights.feed_forward, y)
            return steps.add(x, y, self.config.residual_scale, weights.post_ffn_norm, eps)
        y = self._gated(steps, weights.feed_forward, y)
        return self._add_product(steps, x, y, Product(weights.feed_forward.down), weights.post_ffn_norm)

    def head(self, steps: Steps[V], x: V) -> V:
        config = self.config
        y = steps.rms_norm(x, self.weights.output_norm, config.norm_eps)
        (logits,) = steps.project(y, [Product(self.weights.head)])
        if config.logit_scale == 1 and not config.logit_softcap:
            return logits
        return steps.bound(logits, config.logit_scale, config.logit_softcap)

    def _add_product(self, steps: Steps[V], x: V, y: V, product: Product, post_norm: Floats | None) -> V:
        """x and what a half of the layer adds to it, normalized where the family does so."""
        scale = self.config.residual_scale
        if post_norm is None:
            return steps.add_product(x, y, product, scale)
        (added,) = steps.project(y, [product])
        return steps.add(x, added, scale, post_norm, self.config.norm_eps)

    def _attend(self, steps: Steps[V], layer: int, weights: AttentionWeights, x: V) -> V:
        config = self.config
        products = [
            Product(weights.q, weights.q_bias),
            Product(weights.k, weights.k_bias),
            Product(weights.v, weights.v_bias),
        ]
        q, k, v = steps.project(x, products)
        attention = Attention(
            layer,
            config.num_heads,
            config.num_kv_heads,
            config.head_dim,
            config.value_dim,
            self._rotary_of(layer),
            config.attention_scale,
            window=config.windows[layer],
            softcap=config.attention_softcap,
            sinks=weights.sinks,
            clip=config.qkv_clip,
            q_norm=weights.q_norm,
            k_norm=weights.k_norm,
            norm_eps=config.norm_eps,
        )
        return steps.attend(q, k, v, attention)

    def _attend_latent(self, steps: Steps[V], layer: int, weights: LatentWeights, x: V) -> V:
        """Attention in the latent space: queries are taken there, so that keys and values are never
        unfolded. A position's latent and rotated part are one key of one head.
        """
        config, latent = self.config, self.config.latent
        assert isinstance(latent, LatentAttention)
        if weights.q_a is None or weights.q_a_norm is None:
            q, kv = steps.project(x, [Product(weights.q), Product(weights.kv_a)])
        else:
            q_a, kv = steps.project(x, [Product(weights.q_a), Product(weights.kv_a)])
            q_in = steps.rms_norm(q_a, weights.q_a_norm, config.norm_eps)
            (q,) = steps.project(q_in, [Product(weights.q)])
        attention = Attention(
            layer,
            config.num_heads,
            1,
            latent.kv_rank + latent.rope_dim,
            latent.kv_rank,
            self._rotary_of(layer),
            config.attention_scale,
            rotated_from=latent.kv_rank,
            k_norm=weights.kv_a_norm,
            norm_eps=config.norm_eps,
        )
        q = steps.project_heads(q, weights.k_b, keep=latent.rope_dim)
        return steps.project_heads(steps.attend(q, kv, None, attention), weights.v_b)

    def _gated(self, steps: Steps[V], weights: DenseWeights, x: V) -> V:
        return steps.gated(x, weights.gate, weights.up, self.config.structure.activation)

    def _mix_experts(self, steps: Steps[V], layer: int, weights: MoeWeights, x: V) -> V:
        experts = self.config.experts
        assert experts is not None
        (scores,) = steps.project(x, [Product(weights.router, weights.router_bias)])
        ids, shares = steps.route(scores, experts.routing, weights.choice_bias)
        y = steps.experts(x, ids, shares, self._experts_of(layer), self.config.structure.activation)
        if weights.shared is None:
            return y
        gated, down = self._gated(steps, weights.shared, x), Product(weights.shared.down)
        if weights.shared_gate is None:
            return steps.add_product(y, gated, down)
        (shared,) = steps.project(gated, [down])
        (gate,) = steps.project(x, [Product(weights.shared_gate)])
        return steps.add_gated(y, shared, gate)

    def _rotary_of(self, layer: int) -> Rotary:
        is_local = self.config.rope_of(layer) is self.config.local_rope
        return self._local_rotary if is_local else self._rotary

    def _global_rotary(self, long_context: bool) -> Rotary:
        rope, divisors = self.config.rope, self.weights.rope_divisors
        name = "freqs"
        if rope.scaling.kind == "longrope":
            name = "long" if long_context else "short"
        inv_freq = np.ascontiguousarray(inverse_frequencies(rope, divisors.get(name)))
        return Rotary(inv_freq, self.config.structure.rope_style, rope.scaling.attention_factor)
