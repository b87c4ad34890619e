"""The forward pass: one for every family. What differs between families stands in the configuration.

T tokens, H hidden size, A heads, G key-value heads, D head size, V vocabulary size.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from apportion.core.errors import UsageError
from apportion.formats.block import Floats
from apportion.kernels.ops import ExpertWeights, Ints, Ops
from apportion.models.cache import KvCache
from apportion.models.config import LatentAttention, ModelConfig
from apportion.models.rope import inverse_frequencies
from apportion.models.weights import AttentionWeights, DenseWeights, LatentWeights, ModelWeights, MoeWeights


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)), dtype=np.float32)


class Model:
    """A loaded model: weights, configuration, and the operations that run them.

    Attributes:
        notes: what loading found worth saying (tensors that were left out, formats that were decoded).
    """

    def __init__(
        self, config: ModelConfig, weights: ModelWeights, ops: Ops, notes: tuple[str, ...] = ()
    ) -> None:
        self.config = config
        self.weights = weights
        self.ops = ops
        self.notes = notes
        freqs = weights.rope_divisors.get("freqs")
        self._inv_freq = inverse_frequencies(config.rope, freqs)
        self._long_inv_freq = self._inv_freq
        if config.rope.scaling.kind == "longrope":
            self._inv_freq = inverse_frequencies(config.rope, weights.rope_divisors["short"])
            self._long_inv_freq = inverse_frequencies(config.rope, weights.rope_divisors["long"])
        local = config.local_rope
        self._local_inv_freq = None if local is None else inverse_frequencies(local)

    def new_cache(self, capacity: int, dtype: np.dtype[np.floating] | type = np.float16) -> KvCache:
        """An empty KV cache for one sequence of at most `capacity` positions.

        A model with LongRoPE takes its long factors when the capacity passes the original context, so that
        one sequence is rotated alike from its first position to its last.
        """
        return KvCache(self.config, capacity, dtype)

    def forward(self, ids: ArrayLike, cache: KvCache, *, logits: Literal["last", "all"] = "last") -> Floats:
        """Append tokens [T] to the sequence in `cache` -> logits [1 or T, V] float32.

        Raises:
            ContextOverflow: the cache has no room; it is unchanged.
            UsageError: there are no tokens, or one lies outside of the vocabulary.
        """
        tokens = self._checked(ids)
        cache.require_room(len(tokens))
        x = self.run_layers(self.embed(tokens), cache)
        cache.advance(len(tokens))
        return self.head(x[-1:] if logits == "last" else x)

    def embed(self, ids: Ints) -> Floats:
        """Tokens [T] -> hidden states [T, H]."""
        x = self.ops.embed(ids, self.weights.embedding)
        return x if self.config.embedding_scale == 1 else x * np.float32(self.config.embedding_scale)

    def run_layers(self, x: Floats, cache: KvCache, first: int = 0, last: int | None = None) -> Floats:
        """Hidden states [T, H] through layers first..last-1 -> [T, H].

        Writes keys and values at positions cache.length..; the caller counts them (`cache.advance`) when all
        layers have run.
        """
        positions = np.arange(cache.length, cache.length + x.shape[0], dtype=np.int32)
        for layer in range(first, self.config.num_layers if last is None else last):
            x = self._layer(layer, x, positions, cache)
        return x

    def head(self, x: Floats) -> Floats:
        """Hidden states [T, H] -> logits [T, V]."""
        config = self.config
        x = self.ops.rms_norm(x, self.weights.output_norm, config.norm_eps)
        logits = self.ops.linear(x, self.weights.head)
        if config.logit_scale != 1:
            logits *= np.float32(config.logit_scale)
        if config.logit_softcap:
            cap = np.float32(config.logit_softcap)
            logits = np.tanh(logits / cap) * cap
        return logits

    def experts_of(self, layer: int) -> ExpertWeights:
        """The experts of a layer: the one place where the forward pass asks for them."""
        feed_forward = self.weights.layers[layer].feed_forward
        assert isinstance(feed_forward, MoeWeights)
        return feed_forward.experts

    def _layer(self, layer: int, x: Floats, positions: Ints, cache: KvCache) -> Floats:
        weights, config, norm = self.weights.layers[layer], self.config, self.ops.rms_norm
        residual_scale = np.float32(config.residual_scale)

        y = norm(x, weights.attn_norm, config.norm_eps)
        if isinstance(weights.attention, LatentWeights):
            y = self._attend_latent(layer, weights.attention, y, positions, cache)
        else:
            y = self._attend(layer, weights.attention, y, positions, cache)
        if weights.post_attention_norm is not None:
            y = norm(y, weights.post_attention_norm, config.norm_eps)
        x = x + (y if residual_scale == 1 else y * residual_scale)

        y = norm(x, weights.ffn_norm, config.norm_eps)
        if isinstance(weights.feed_forward, MoeWeights):
            y = self._mix_experts(layer, weights.feed_forward, y)
        else:
            y = self._feed_forward(weights.feed_forward, y)
        if weights.post_ffn_norm is not None:
            y = norm(y, weights.post_ffn_norm, config.norm_eps)
        return x + (y if residual_scale == 1 else y * residual_scale)

    def _attend(
        self, layer: int, weights: AttentionWeights, x: Floats, positions: Ints, cache: KvCache
    ) -> Floats:
        ops, config, num_tokens = self.ops, self.config, x.shape[0]
        q = self._normed(ops.linear(x, weights.q, weights.q_bias), weights.q_norm)
        k = self._normed(ops.linear(x, weights.k, weights.k_bias), weights.k_norm)
        v = ops.linear(x, weights.v, weights.v_bias)
        if config.qkv_clip:
            q, k, v = (np.clip(part, -config.qkv_clip, config.qkv_clip) for part in (q, k, v))
        q = q.reshape(num_tokens, config.num_heads, config.head_dim)
        k = k.reshape(num_tokens, config.num_kv_heads, config.head_dim)
        v = v.reshape(num_tokens, config.num_kv_heads, config.value_dim)

        self._rotate(layer, q, positions, cache)
        self._rotate(layer, k, positions, cache)
        ops.append(cache.keys[layer], k, cache.length)
        ops.append(cache.values[layer], v, cache.length)
        attended = ops.attend(
            q,
            cache.keys[layer],
            cache.values[layer],
            cache.length,
            config.attention_scale,
            config.windows[layer],
            config.attention_softcap,
            weights.sinks,
        )
        return ops.linear(attended.reshape(num_tokens, -1), weights.out, weights.out_bias)

    def _attend_latent(
        self, layer: int, weights: LatentWeights, x: Floats, positions: Ints, cache: KvCache
    ) -> Floats:
        """Attention in the latent space: queries are taken there, so that keys and values are never
        unfolded.
        """
        ops, config, num_tokens = self.ops, self.config, x.shape[0]
        latent = config.latent
        assert isinstance(latent, LatentAttention)
        q_in = x
        if weights.q_a is not None and weights.q_a_norm is not None:
            q_in = ops.rms_norm(ops.linear(x, weights.q_a), weights.q_a_norm, config.norm_eps)
        q = ops.linear(q_in, weights.q).reshape(num_tokens, config.num_heads, config.head_dim)
        kv = ops.linear(x, weights.kv_a)  # [T, rank + rope]

        q_rope = np.ascontiguousarray(q[:, :, latent.nope_dim :])
        k_rope = np.ascontiguousarray(kv[:, None, latent.kv_rank :])
        self._rotate(layer, q_rope, positions, cache)
        self._rotate(layer, k_rope, positions, cache)
        k_latent = ops.rms_norm(
            np.ascontiguousarray(kv[:, : latent.kv_rank]), weights.kv_a_norm, config.norm_eps
        )
        q_latent = ops.linear_heads(np.ascontiguousarray(q[:, :, : latent.nope_dim]), weights.k_b)

        ops.append(cache.keys[layer], np.concatenate([k_latent[:, None], k_rope], axis=2), cache.length)
        attended = ops.attend(
            np.concatenate([q_latent, q_rope], axis=2),
            cache.keys[layer],
            cache.values[layer],
            cache.length,
            config.attention_scale,
        )
        values = ops.linear_heads(attended, weights.v_b)  # [T, A, value]
        return ops.linear(values.reshape(num_tokens, -1), weights.out)

    def _feed_forward(self, weights: DenseWeights, x: Floats) -> Floats:
        ops = self.ops
        gated = ops.gate(
            ops.linear(x, weights.gate), ops.linear(x, weights.up), self.config.structure.activation
        )
        return ops.linear(gated, weights.down)

    def _mix_experts(self, layer: int, weights: MoeWeights, x: Floats) -> Floats:
        ops, experts = self.ops, self.config.experts
        assert experts is not None
        scores = ops.linear(x, weights.router, weights.router_bias)
        ids, shares = ops.route(scores, experts.routing, weights.choice_bias)
        y = ops.experts(x, ids, shares, self.experts_of(layer), self.config.structure.activation)
        if weights.shared is None:
            return y
        shared = self._feed_forward(weights.shared, x)
        if weights.shared_gate is not None:
            shared = shared * sigmoid(ops.linear(x, weights.shared_gate))
        return y + shared

    def _normed(self, x: Floats, weight: Floats | None) -> Floats:
        """Queries or keys [T, heads * D], normalized over as many numbers as `weight` has."""
        if weight is None:
            return x
        return self.ops.rms_norm(x.reshape(-1, weight.shape[0]), weight, self.config.norm_eps).reshape(
            x.shape
        )

    def _rotate(self, layer: int, x: Floats, positions: Ints, cache: KvCache) -> None:
        """Rotary embedding of x [T, heads, D], in place."""
        rope, scaling = self.config.rope_of(layer), self.config.rope.scaling
        if rope is self.config.local_rope and self._local_inv_freq is not None:
            frequencies = self._local_inv_freq
        elif scaling.kind == "longrope" and cache.capacity > scaling.original_context:
            frequencies = self._long_inv_freq
        else:
            frequencies = self._inv_freq
        style = self.config.structure.rope_style
        self.ops.rope(x, positions, frequencies, style, rope.scaling.attention_factor)

    def _checked(self, ids: ArrayLike) -> Ints:
        tokens = np.asarray(ids, dtype=np.int64).reshape(-1)
        if tokens.size == 0:
            raise UsageError("there are no tokens to run", hint="give a prompt of at least one token")
        if tokens.min() < 0 or tokens.max() >= self.config.vocab_size:
            raise UsageError(
                "a token lies outside of the vocabulary",
                vocab_size=self.config.vocab_size,
                lowest=int(tokens.min()),
                highest=int(tokens.max()),
            )
        return tokens.astype(np.int32)
