"""A forward pass as a program of the core: recorded once, then run in one native call."""

from __future__ import annotations

from collections.abc import Sequence
from sys import getrefcount
from typing import TypeAlias

import numpy as np

from apportion import _native
from apportion.formats.block import Bytes, Floats
from apportion.kernels.kv import Segment
from apportion.kernels.ops import Best, BestOf, ExpertWeights, Gate, Ints, Routing
from apportion.kernels.steps import Attention, Forward, Product, Rotary, StatesOf, Want
from apportion.kernels.weight import Weight

# The core's numbers for these choices.
GATES = {"silu": 0, "gelu_tanh": 1, "swiglu_oai": 2}
SCORES = {"softmax": 0, "sigmoid": 1, "softmax_topk": 2}
WANTS = {"hidden": 0, "last": 1, "all": 2}
SOME_ROWS, SOME_STATES = 3, 4

# What the core takes for a weight: data, type, shape, bias.
WeightParts: TypeAlias = tuple[Bytes, int, tuple[int, ...], Floats | None]
# And for a segment: table, start, number of tokens, position.
NativeSegment: TypeAlias = tuple[_native.KvTable, int, int, int]
# It gives, of the largest logits, ids, values, and the share of the head that was multiplied whole.
NativeBest: TypeAlias = tuple[list[int], list[float], float]


COMPARED_AT_A_TIME = 16  # rows of logits, of which only the largest are wanted


class NativeProgram:
    """`kernels.steps.Program` on the core. Its buffers grow to the most tokens that a run had, and stay."""

    def __init__(self, forward: Forward, isa: str, threads: int, exact: bool) -> None:
        self._native = _native.Program(isa, threads, exact)
        self._num_layers = forward.num_layers
        self._hidden_size = forward.hidden_size
        self._vocab_size = forward.vocab_size
        self._rows = tuple(np.empty((1, forward.vocab_size), np.float32) for _ in range(2))
        self._unheld = self._references()
        # Of logits that are forgotten before another run begins; only rows that are used take memory.
        self._compared = np.empty((COMPARED_AT_A_TIME, forward.vocab_size), np.float32)
        steps = Recorder(self._native)
        x = self._enter(forward, steps)
        for layer in range(forward.num_layers):
            steps.mark(x)
            x = forward.layer(steps, layer, x)
        steps.mark(x)
        steps.finish(forward.head(steps, x))

    def _enter(self, forward: Forward, steps: Recorder) -> Value:
        """Hidden states before the first layer."""
        return forward.embed(steps)

    @property
    def nbytes_per_token(self) -> int:
        """Bytes of buffers for each token that passes at a time."""
        return self._native.nbytes_per_token

    @property
    def nbytes_carried(self) -> int:
        """Bytes of buffers for each token of a run."""
        return self._native.nbytes_carried

    def _wanted(
        self, num_tokens: int, batch: Sequence[Segment] | None, want: Want
    ) -> tuple[int, Ints | None, Floats]:
        """The core's number of what is wanted, which rows, and room for them."""
        if isinstance(want, StatesOf):
            return SOME_STATES, want.rows, np.empty((len(want.rows), self._hidden_size), np.float32)
        if not isinstance(want, str):
            return SOME_ROWS, want, self._logits(len(want))
        num_rows = num_tokens
        if want == "last":
            num_rows = 1 if batch is None else len(batch)
        if want == "hidden":
            return WANTS[want], None, np.empty((num_rows, self._hidden_size), np.float32)
        return WANTS[want], None, self._logits(num_rows)

    def _logits(self, num_rows: int) -> Floats:
        """Room for logits. A single row is one of the last two that nobody holds any more: to obtain it anew
        costs 20 microseconds, and a page fault for each 4 KiB.
        """
        if num_rows != 1:
            return np.empty((num_rows, self._vocab_size), np.float32)
        for row in self._rows:  # by a name of its own: two threads see that the other has it
            if getrefcount(row) <= self._unheld:
                return row
        row = np.empty((1, self._vocab_size), np.float32)
        self._rows = (row, self._rows[0])
        return row

    def _references(self) -> int:
        """As many as `_logits` counts of a row that nobody else holds; interpreters differ in it."""
        row, _ = self._rows
        return getrefcount(row)

    def run(
        self,
        source: Ints | Floats,
        batch: Sequence[Segment] | None,
        first: int = 0,
        last: int | None = None,
        want: Want = "last",
    ) -> Floats:
        wanted, rows, out = self._wanted(len(source), batch, want)
        self._run(source, batch, first, self._num_layers if last is None else last, wanted, rows, out)
        return out

    def best(
        self,
        source: Ints | Floats,
        batch: Sequence[Segment] | None,
        of: BestOf,
        rows: Ints | None = None,
        first: int = 0,
        by_bounds: bool = False,
    ) -> Best:
        want = WANTS["last"] if rows is None else SOME_ROWS
        room = None if by_bounds else self._compared
        found = self._run(source, batch, first, self._num_layers, want, rows, room, of)
        assert found is not None
        return Best(*found)

    def _run(
        self,
        source: Ints | Floats,
        batch: Sequence[Segment] | None,
        first: int,
        last: int,
        want: int,
        rows: Ints | None,
        out: Floats | None,
        of: BestOf | None = None,
    ) -> NativeBest | None:
        """What is wanted goes to `out`; where `of` asks for the best of each row, that is the result."""
        return self._native.run(natives(batch), source, first, last, want, rows, out, of)


def natives(batch: Sequence[Segment] | None) -> list[NativeSegment] | None:
    return None if batch is None else [segment.native for segment in batch]


class Value:
    """A buffer's content, until a step changes it."""

    __slots__ = ("_buffer", "_stale")

    def __init__(self, buffer: int) -> None:
        self._buffer = buffer
        self._stale = False

    @property
    def buffer(self) -> int:
        assert not self._stale, "this value has been changed by a later step"
        return self._buffer

    def changed(self) -> Value:
        """The same buffer with its next content; this value must not be used any more."""
        self._stale = True
        return Value(self._buffer)


class Recorder:
    """`kernels.steps.Steps` that adds each step to a program."""

    def __init__(self, native: _native.Program) -> None:
        self._native = native
        self._rotaries: dict[Rotary, int] = {}

    def mark(self, x: Value) -> None:
        """Here a run may start or stop."""
        self._native.mark(x.buffer)

    def finish(self, logits: Value) -> None:
        """Nothing follows."""
        self._native.finish(logits.buffer)

    def embed(self, table: Weight, scale: float = 1.0) -> Value:
        return Value(self._native.embed(parts(table), scale))

    def input(self, width: int) -> Value:
        """Hidden states that runs are given, in place of `embed`."""
        return Value(self._native.input(width))

    def rms_norm(self, x: Value, weight: Floats, eps: float) -> Value:
        return Value(self._native.rms_norm(x.buffer, weight, eps))

    def project(self, x: Value, products: Sequence[Product]) -> list[Value]:
        weights = [parts(product.weight, product.bias) for product in products]
        return [Value(buffer) for buffer in self._native.project(x.buffer, weights)]

    def add_product(self, to: Value, x: Value, product: Product, scale: float = 1.0) -> Value:
        self._native.add_product(x.buffer, parts(product.weight, product.bias), to.buffer, scale)
        return to.changed()

    def project_heads(self, x: Value, weight: Weight, keep: int = 0) -> Value:
        return Value(self._native.project_heads(x.buffer, parts(weight), keep))

    def gated(self, x: Value, gate: Weight, up: Weight, kind: Gate) -> Value:
        return Value(self._native.gated(x.buffer, parts(gate), parts(up), GATES[kind]))

    def attend(self, q: Value, k: Value, v: Value | None, attention: Attention) -> Value:
        a = attention
        attended = self._native.attend(
            q.buffer,
            k.buffer,
            None if v is None else v.buffer,
            a.layer,
            a.num_heads,
            a.num_kv_heads,
            a.head_dim,
            a.value_dim,
            self._rotary(a.rotary),
            a.rotated_from,
            a.q_norm,
            a.k_norm,
            a.norm_eps,
            a.clip,
            a.scale,
            a.window,
            a.softcap,
            a.sinks,
        )
        for value in (q, k, v):
            if value is not None:
                value.changed()
        return Value(attended)

    def route(self, logits: Value, routing: Routing, bias: Floats | None = None) -> tuple[Value, Value]:
        ids, weights = self._native.route(
            logits.buffer,
            bias,
            routing.top_k,
            SCORES[routing.score],
            routing.normalize,
            routing.scale,
            routing.num_groups,
            routing.top_groups,
            routing.group_score == "top2",
        )
        return Value(ids), Value(weights)

    def experts(self, x: Value, ids: Value, weights: Value, experts: ExpertWeights, kind: Gate) -> Value:
        gate = parts(experts.gate, experts.gate_bias)
        up = parts(experts.up, experts.up_bias)
        down = parts(experts.down, experts.down_bias)
        table = experts.table
        mixed = self._native.experts(x.buffer, ids.buffer, weights.buffer, gate, up, down, GATES[kind], table)
        return Value(mixed)

    def add(
        self, to: Value, y: Value, scale: float = 1.0, norm: Floats | None = None, eps: float = 0.0
    ) -> Value:
        self._native.add(to.buffer, y.buffer, scale, norm, eps)
        y.changed()
        return to.changed()

    def add_gated(self, to: Value, y: Value, gate: Value) -> Value:
        self._native.add_gated(to.buffer, y.buffer, gate.buffer)
        return to.changed()

    def bound(self, x: Value, scale: float = 1.0, cap: float = 0.0) -> Value:
        self._native.bound(x.buffer, scale, cap)
        return x.changed()

    def _rotary(self, rotary: Rotary) -> int:
        """The core's number of this rotary embedding; its angles are made once per run."""
        if rotary not in self._rotaries:
            interleaved = rotary.style == "interleaved"
            number = self._native.add_rotary(rotary.inv_freq, interleaved, rotary.scale)
            self._rotaries[rotary] = number
        return self._rotaries[rotary]


def parts(weight: Weight, bias: Floats | None = None) -> WeightParts:
    return weight.data, weight.storage, weight.shape, bias
