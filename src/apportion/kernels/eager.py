"""Steps done at once, one operation after the other: the reference for recorded programs.

With the NumPy operations it is the reference for whole models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from apportion.formats.block import Floats
from apportion.kernels.kv import Segment
from apportion.kernels.kv_codec import BLOCK_TOKENS
from apportion.kernels.ops import Best, BestOf, ExpertWeights, Gate, Ints, Ops, Routing
from apportion.kernels.steps import Attention, Forward, Product, Rotary, StatesOf, Want
from apportion.kernels.weight import Weight

Array: TypeAlias = NDArray[Any]  # a value of a step: floats, or the ids of experts
# Told of each layer's routes: the layer, ids and weights of its experts [T, R], what its router saw [T, H].
# The arrays hold for the call alone.
RouteObserver: TypeAlias = Callable[[int, Ints, Floats, Floats], None]


class EagerProgram:
    """`kernels.steps.Program` that goes through the forward pass afresh in every run, and may be watched."""

    def __init__(self, ops: Ops, forward: Forward, observe: RouteObserver | None = None) -> None:
        self._ops = ops
        self._forward = forward
        self._observe = observe

    def run(
        self,
        source: Ints | Floats,
        batch: Sequence[Segment] | None,
        first: int = 0,
        last: int | None = None,
        want: Want = "last",
    ) -> Floats:
        forward = self._forward
        steps = EagerSteps(self._ops, source, batch)
        x: Array = forward.embed(steps) if source.ndim == 1 else source
        for layer in range(first, forward.num_layers if last is None else last):
            x = forward.layer(steps, layer, x)
            if self._observe is not None and steps.route_seen is not None:
                self._observe(layer, *steps.route_seen)
                steps.route_seen = None
        if isinstance(want, StatesOf):
            return x[want.rows]
        if isinstance(want, str) and want == "hidden":
            return x
        return forward.head(steps, x[rows_of(batch, want)])

    def best(
        self,
        source: Ints | Floats,
        batch: Sequence[Segment] | None,
        of: BestOf,
        rows: Ints | None = None,
        first: int = 0,
        by_bounds: bool = False,
    ) -> Best:
        return best_of(self.run(source, batch, first, want="last" if rows is None else rows), of)


def best_of(logits: Floats, of: BestOf) -> Best:
    """The largest of each row of logits [T, N], which are overwritten."""
    logits[:, [place for place in of.without if place < logits.shape[1]]] = -np.inf
    counted = logits[:, : of.limit]
    ids = counted.argmax(axis=1)
    return Best(ids.tolist(), counted[np.arange(len(ids)), ids].tolist())


def rows_of(batch: Sequence[Segment] | None, want: Literal["last", "all"] | Ints) -> Ints | slice:
    """Whose logits are wanted."""
    if not isinstance(want, str):
        return want
    if want == "last":
        ends = [-1] if batch is None else np.cumsum([segment.num_tokens for segment in batch]) - 1
        return np.array(ends, np.int32)
    return slice(None)


class EagerSteps:
    """`kernels.steps.Steps` over arrays. Nothing is changed in place but the pages."""

    def __init__(self, ops: Ops, source: Array, batch: Sequence[Segment] | None) -> None:
        self._ops = ops
        self._source = source
        self._batch = [] if batch is None else batch
        positions = [np.arange(s.position, s.position + s.num_tokens) for s in self._batch]
        self._positions = np.concatenate(positions).astype(np.int32) if positions else None
        self._projected: Array | None = None
        # The last route's expert ids and weights, and what the router saw, which is projected just before.
        self.route_seen: tuple[Array, Array, Array] | None = None

    def embed(self, table: Weight, scale: float = 1.0) -> Array:
        return self._ops.embed(self._source, table) * np.float32(scale)

    def rms_norm(self, x: Array, weight: Floats, eps: float) -> Array:
        return self._ops.rms_norm(x, weight, eps)

    def project(self, x: Array, products: Sequence[Product]) -> list[Array]:
        self._projected = x
        apart = len(products) > 1
        return [
            self._ops.linear(x, product.weight, product.bias, outliers_apart=apart) for product in products
        ]

    def add_product(self, to: Array, x: Array, product: Product, scale: float = 1.0) -> Array:
        return np.asarray(to + self._ops.linear(x, product.weight, product.bias) * np.float32(scale))

    def project_heads(self, x: Array, weight: Weight, keep: int = 0) -> Array:
        num_heads, _, num_cols = weight.shape
        heads = x.reshape(len(x), num_heads, num_cols + keep)
        turned = self._ops.linear_heads(np.ascontiguousarray(heads[:, :, :num_cols]), weight)
        return np.concatenate([turned, heads[:, :, num_cols:]], axis=2).reshape(len(x), -1)

    def gated(self, x: Array, gate: Weight, up: Weight, kind: Gate) -> Array:
        return self._ops.gate(self._ops.linear(x, gate), self._ops.linear(x, up), kind)

    def attend(self, q: Array, k: Array, v: Array | None, attention: Attention) -> Array:
        a = attention
        q, k = self._placed(q, a.q_norm, a.num_heads, a), self._placed(k, a.k_norm, a.num_kv_heads, a)
        if v is not None:
            v = clipped(v, a.clip).reshape(len(v), a.num_kv_heads, a.value_dim)
        smooth(self._batch, a.layer, q, k)
        self._ops.append(self._batch, a.layer, k, v)
        attended = self._ops.attend(q, self._batch, a.layer, a.scale, a.window, a.softcap, a.sinks)
        return attended.reshape(len(q), -1)

    def route(self, logits: Array, routing: Routing, bias: Floats | None = None) -> tuple[Array, Array]:
        ids, weights = self._ops.route(logits, routing, bias)
        assert self._projected is not None
        self.route_seen = ids, weights, self._projected
        return ids, weights

    def experts(self, x: Array, ids: Array, weights: Array, experts: ExpertWeights, kind: Gate) -> Array:
        return self._ops.experts(x, ids, weights, experts, kind)

    def add(
        self, to: Array, y: Array, scale: float = 1.0, norm: Floats | None = None, eps: float = 0.0
    ) -> Array:
        if norm is not None:
            y = self._ops.rms_norm(y, norm, eps)
        return np.asarray(to + y * np.float32(scale))

    def add_gated(self, to: Array, y: Array, gate: Array) -> Array:
        share = 0.5 * (1 + np.tanh(0.5 * gate))  # the sigmoid, without overflow
        return np.asarray(to + y * share, dtype=np.float32)

    def bound(self, x: Array, scale: float = 1.0, cap: float = 0.0) -> Array:
        x = x * np.float32(scale)
        return np.float32(cap) * np.tanh(x / np.float32(cap)) if cap > 0 else x

    def _placed(self, x: Array, norm: Floats | None, num_heads: int, attention: Attention) -> Array:
        """Queries or keys [T, heads * D] as attention wants them, [T, heads, D]."""
        a = attention
        x = clipped(self._head_normed(x, norm, a), a.clip)
        heads = x.reshape(len(x), num_heads, a.head_dim).copy()
        assert self._positions is not None
        rotated: Rotary = a.rotary
        self._ops.rope(
            heads[:, :, a.rotated_from :], self._positions, rotated.inv_freq, rotated.style, rotated.scale
        )
        return heads

    def _head_normed(self, x: Array, norm: Floats | None, attention: Attention) -> Array:
        if norm is None:
            return x
        runs = x.reshape(-1, max(attention.head_dim, len(norm)))
        normed = self._ops.rms_norm(np.ascontiguousarray(runs[:, : len(norm)]), norm, attention.norm_eps)
        return np.concatenate([normed, runs[:, len(norm) :]], axis=1).reshape(x.shape)


def smooth(batch: Sequence[Segment], layer: int, q: Array, k: Array) -> None:
    """Queries [T, A, D] and keys [T, G, D] in channels that are alike large, where the pages have them so."""
    end = 0
    for segment in batch:
        begin, end = end, end + segment.num_tokens
        pool = segment.table.blocks[segment.start // BLOCK_TOKENS].pool
        if pool.smoothing:
            factors = pool.smoothing[layer]
            q[begin:end] *= np.repeat(factors, q.shape[1] // len(factors), axis=0)
            k[begin:end] *= np.float32(1) / factors


def clipped(x: Array, most: float) -> Array:
    return np.clip(x, -np.float32(most), np.float32(most)) if most > 0 else x
