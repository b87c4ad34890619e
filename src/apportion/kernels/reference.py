"""The reference: every operation in plain NumPy and float32, written to be read.

It judges the native core in tests and runs whole models where speed does not matter. Weights are decoded
afresh in every call and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from apportion.core.errors import Unsupported
from apportion.formats.block import Floats
from apportion.kernels.eager import EagerProgram
from apportion.kernels.kv import Segment
from apportion.kernels.kv_rows import read_rows, write_rows
from apportion.kernels.ops import ExpertWeights, Gate, Ints, RopeStyle, Routing
from apportion.kernels.residency import Residency
from apportion.kernels.steps import Forward
from apportion.kernels.weight import Weight

NUMBERS_AT_A_TIME = 1 << 22  # a large matrix is decoded in runs of rows of about this many numbers


class ReferenceOps:
    """`kernels.ops.Ops` in NumPy; shapes and meanings stand there."""

    def program(self, forward: Forward, residency: Residency | None = None) -> EagerProgram:
        if residency is not None:
            raise Unsupported(
                "the reference has all weights in memory",
                hint="run it without a budget, or with the C++ core",
            )
        return EagerProgram(self, forward)

    def prepare(self, weight: Weight) -> Weight:
        return weight.in_rows()

    def prepare_head(self, weight: Weight) -> Weight:
        return self.prepare(weight)

    def embed(self, ids: Ints, table: Weight) -> Floats:
        return table.format.dequantize(table.data[ids])

    def rms_norm(self, x: Floats, weight: Floats, eps: float) -> Floats:
        mean_square = np.mean(np.square(x), axis=-1, keepdims=True, dtype=np.float32)
        return np.asarray(x / np.sqrt(mean_square + np.float32(eps)) * weight, dtype=np.float32)

    def linear(
        self, x: Floats, weight: Weight, bias: Floats | None = None, *, outliers_apart: bool = False
    ) -> Floats:
        num_rows, num_cols = weight.shape
        out = np.empty((x.shape[0], num_rows), dtype=np.float32)
        step = max(1, NUMBERS_AT_A_TIME // num_cols)
        for first in range(0, num_rows, step):
            out[:, first : first + step] = x @ weight[first : first + step].dequantize().T
        return out if bias is None else out + bias

    def linear_heads(self, x: Floats, weight: Weight) -> Floats:
        return np.ascontiguousarray(np.einsum("tak,ank->tan", x, weight.dequantize()))

    def rope(
        self, x: Floats, positions: Ints, inv_freq: Floats, style: RopeStyle, scale: float = 1.0
    ) -> None:
        half = len(inv_freq)
        angle = positions[:, None].astype(np.float32) * inv_freq
        cos = (np.cos(angle) * np.float32(scale))[:, None, :]
        sin = (np.sin(angle) * np.float32(scale))[:, None, :]
        if style == "half":
            first, second = slice(0, half), slice(half, 2 * half)
        else:
            first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
        a, b = x[..., first].copy(), x[..., second].copy()
        x[..., first] = a * cos - b * sin
        x[..., second] = b * cos + a * sin

    def gate(self, gate: Floats, up: Floats, kind: Gate) -> Floats:
        if kind == "silu":
            return np.asarray(gate * sigmoid(gate) * up, dtype=np.float32)
        if kind == "gelu_tanh":
            inner = np.float32(np.sqrt(2 / np.pi)) * (gate + np.float32(0.044715) * gate * gate * gate)
            return np.asarray(np.float32(0.5) * gate * (1 + np.tanh(inner)) * up, dtype=np.float32)
        g, u = np.minimum(gate, np.float32(7)), np.clip(up, np.float32(-7), np.float32(7))
        return np.asarray(g * sigmoid(np.float32(1.702) * g) * (u + 1), dtype=np.float32)

    def append(self, segments: Sequence[Segment], layer: int, keys: Floats, values: Floats | None) -> None:
        end = 0
        for segment in segments:
            begin, end = end, end + segment.num_tokens
            own_values = None if values is None else values[begin:end]
            write_rows(segment.table, layer, segment.start, keys[begin:end], own_values)

    def attend(
        self,
        q: Floats,
        segments: Sequence[Segment],
        layer: int,
        scale: float,
        window: int = 0,
        softcap: float = 0.0,
        sinks: Floats | None = None,
    ) -> Floats:
        out, end = [], 0
        for segment in segments:
            begin, end = end, end + segment.num_tokens
            num_heads = segment.table.blocks[0].pool.layout.layers[layer].shape.num_heads
            own, per_head = q[begin:end], q.shape[1] // num_heads
            groups = []
            for head in range(num_heads):
                keys, values = read_rows(segment.table, layer, head, segment.start + segment.num_tokens)
                some = slice(head * per_head, (head + 1) * per_head)
                own_sinks = None if sinks is None else sinks[some]
                groups.append(attend_rows(own[:, some], keys, values, scale, window, softcap, own_sinks))
            out.append(np.concatenate(groups, axis=1))
        return np.concatenate(out)

    def route(self, logits: Floats, routing: Routing, bias: Floats | None = None) -> tuple[Ints, Floats]:
        if routing.score == "softmax":
            scores = softmax_with_sink(logits, None)
        elif routing.score == "sigmoid":
            scores = sigmoid(logits)
        else:
            scores = logits
        choice = keep_best_groups(scores if bias is None else scores + bias, routing)
        ids = np.argsort(-choice, axis=-1, kind="stable")[:, : routing.top_k]
        weights = np.take_along_axis(scores, ids, axis=-1)
        if routing.score == "softmax_topk":
            weights = softmax_with_sink(weights, None)
        if routing.normalize:
            weights = weights / (weights.sum(axis=-1, keepdims=True) + np.float32(1e-20))
        return ids.astype(np.int32), np.asarray(weights * np.float32(routing.scale), dtype=np.float32)

    def experts(self, x: Floats, ids: Ints, weights: Floats, experts: ExpertWeights, kind: Gate) -> Floats:
        out = np.zeros_like(x)
        for expert in np.unique(ids):
            tokens, slots = np.nonzero(ids == expert)
            inner = x[tokens]
            gate = self.linear(inner, experts.gate[expert], row(experts.gate_bias, expert))
            up = self.linear(inner, experts.up[expert], row(experts.up_bias, expert))
            down = self.linear(
                self.gate(gate, up, kind), experts.down[expert], row(experts.down_bias, expert)
            )
            np.add.at(out, tokens, down * weights[tokens, slots][:, None])
        return out


def attend_rows(
    q: Floats, keys: Floats, values: Floats, scale: float, window: int, softcap: float, sinks: Floats | None
) -> Floats:
    """Queries [T, A, D] of a group of heads over the keys [n, D] and values [n, Dv] that they see, of which
    the last T are the queries' own -> [T, A, Dv].
    """
    hidden = unseen(len(keys) - len(q), len(q), window)
    out = np.empty((*q.shape[:2], values.shape[1]), dtype=np.float32)
    for head in range(q.shape[1]):
        scores = q[:, head] @ keys.astype(np.float32).T * np.float32(scale)
        if softcap > 0:
            scores = np.float32(softcap) * np.tanh(scores / np.float32(softcap))
        scores[hidden] = -np.inf
        sink = None if sinks is None else sinks[head]
        out[:, head] = softmax_with_sink(scores, sink) @ values.astype(np.float32)
    return out


def row(matrix: Floats | None, index: int) -> Floats | None:
    return None if matrix is None else matrix[index]


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)) without overflow."""
    small = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, small) / (1 + small), dtype=np.float32)


def unseen(start: int, num_tokens: int, window: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """[T, start + T]: which positions a token at start..start+T-1 must not see."""
    query = np.arange(start, start + num_tokens)[:, None]
    position = np.arange(start + num_tokens)[None, :]
    hidden = position > query
    return hidden | (position <= query - window) if window > 0 else hidden


def softmax_with_sink(scores: Floats, sink: Floats | np.float32 | None) -> Floats:
    """Softmax over the last dimension; a sink is one more logit in the sum, without a place of its own."""
    top = scores.max(axis=-1, keepdims=True)
    if sink is not None:
        top = np.maximum(top, sink)
    weights = np.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True)
    if sink is not None:
        total = total + np.exp(sink - top)
    return np.asarray(weights / total, dtype=np.float32)


def keep_best_groups(choice: Floats, routing: Routing) -> Floats:
    """Scores [T, E] with those outside the best groups at minus infinity."""
    if routing.top_groups >= routing.num_groups:
        return choice
    grouped = choice.reshape(len(choice), routing.num_groups, -1)
    if routing.group_score == "max":
        worth = grouped.max(axis=-1)
    else:
        worth = np.sort(grouped, axis=-1)[..., -2:].sum(axis=-1)
    best = np.argsort(-worth, axis=-1, kind="stable")[:, : routing.top_groups]
    kept = np.zeros(worth.shape, dtype=bool)
    np.put_along_axis(kept, best, True, axis=-1)
    return np.where(kept[:, :, None], grouped, np.float32(-np.inf)).reshape(choice.shape)
