"""The C++ core as `kernels.ops.Ops`: outputs are allocated here, everything else happens in one native call.

Products with integer formats round activations to integers with a scale per 32 numbers (8 bits; 13 where the
format's codes fill a byte, and the wider multiply costs nothing), unless `exact` asks for float activations.
Results do not depend on the number of threads, nor on which tokens are computed together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from apportion import _native
from apportion.core.errors import Unsupported, UsageError
from apportion.core.settings import ISA, get
from apportion.formats.block import Floats
from apportion.kernels.kv import Segment
from apportion.kernels.ops import ExpertWeights, Gate, Ints, RopeStyle, Routing
from apportion.kernels.record import GATES, SCORES, NativeProgram
from apportion.kernels.residency import Residency
from apportion.kernels.steps import Forward
from apportion.kernels.streamed import StreamedProgram
from apportion.kernels.weight import Weight


class NativeOps:
    """Operations on this machine's processor; shapes and meanings stand in `kernels.ops.Ops`.

    Every call lets go of the GIL, and may be made from several threads at once. Arrays whose shape or type
    does not fit raise ValueError before anything is read.

    Args:
        threads: how many threads share a call's work; all that this process may use if None.
        exact: float activations for every format, as a reference for what rounding them costs.
        isa: instruction set, one of `available_isas()`; if None, the setting `isa`, else the fastest.

    Raises:
        UsageError: `threads` is below 1, or this machine does not have the instruction set.
    """

    def __init__(self, threads: int | None = None, exact: bool = False, isa: str | None = None) -> None:
        if threads is None:
            threads = available_threads()
        if not 1 <= threads <= 1024:
            raise UsageError("this number of threads is not possible", hint="use 1 to 1024", threads=threads)
        self._core = _native.Core(choose_isa(isa), threads, exact)
        self.threads = threads
        self.exact = exact
        self.isa = self._core.isa

    def program(self, forward: Forward, residency: Residency | None = None) -> NativeProgram:
        if residency is not None:
            return StreamedProgram(forward, self.isa, self.threads, self.exact, residency)
        return NativeProgram(forward, self.isa, self.threads, self.exact)

    def prepare(self, weight: Weight) -> Weight:
        return weight.interleave(self.threads)

    def prepare_head(self, weight: Weight) -> Weight:
        prepared = self.prepare(weight)
        # A bound takes two products where a row takes one: portable code waits for products, not for memory.
        keeps_whole = self.exact or self.isa == "portable"
        return prepared if keeps_whole else prepared.parted(self.threads)

    def embed(self, ids: Ints, table: Weight) -> Floats:
        out = np.empty((len(ids), table.shape[1]), np.float32)
        self._core.embed(ids, table.data, table.storage, out)
        return out

    def rms_norm(self, x: Floats, weight: Floats, eps: float) -> Floats:
        out = np.empty(x.shape, np.float32)
        self._core.rms_norm(x, weight, eps, out)
        return out

    def linear(
        self, x: Floats, weight: Weight, bias: Floats | None = None, *, outliers_apart: bool = False
    ) -> Floats:
        out = np.empty((x.shape[0], weight.shape[0]), np.float32)
        self._core.linear(x, weight.data, weight.storage, bias, out, outliers_apart)
        return out

    def linear_heads(self, x: Floats, weight: Weight) -> Floats:
        out = np.empty((*x.shape[:2], weight.shape[1]), np.float32)
        self._core.linear_heads(x, weight.data, weight.storage, out)
        return out

    def rope(
        self, x: Floats, positions: Ints, inv_freq: Floats, style: RopeStyle, scale: float = 1.0
    ) -> None:
        self._core.rope(x, positions, inv_freq, style == "interleaved", scale)

    def gate(self, gate: Floats, up: Floats, kind: Gate) -> Floats:
        out = np.empty(gate.shape, np.float32)
        self._core.gate(gate, up, GATES[kind], out)
        return out

    def append(self, segments: Sequence[Segment], layer: int, keys: Floats, values: Floats | None) -> None:
        self._core.append([segment.native for segment in segments], layer, keys, values)

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
        value_width = segments[0].table.blocks[0].pool.layout.layers[layer].shape.value_width
        out = np.empty((*q.shape[:2], value_width), np.float32)
        native = [segment.native for segment in segments]
        self._core.attend(q, native, layer, scale, window, softcap, sinks, out)
        return out

    def route(self, logits: Floats, routing: Routing, bias: Floats | None = None) -> tuple[Ints, Floats]:
        ids = np.empty((len(logits), routing.top_k), np.int32)
        weights = np.empty(ids.shape, np.float32)
        self._core.route(
            logits,
            bias,
            routing.top_k,
            SCORES[routing.score],
            routing.normalize,
            routing.scale,
            routing.num_groups,
            routing.top_groups,
            routing.group_score == "top2",
            ids,
            weights,
        )
        return ids, weights

    def experts(self, x: Floats, ids: Ints, weights: Floats, experts: ExpertWeights, kind: Gate) -> Floats:
        out = np.empty(x.shape, np.float32)
        gate, up, down = experts.gate, experts.up, experts.down
        self._core.experts(
            x,
            ids,
            weights,
            (gate.data, gate.storage, experts.gate_bias),
            (up.data, up.storage, experts.up_bias),
            (down.data, down.storage, experts.down_bias),
            gate.shape[0],
            gate.shape[1],
            GATES[kind],
            out,
        )
        return out


def available_threads() -> int:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_isas() -> list[str]:
    """Instruction sets that this machine can use, the fastest first."""
    return _native.available_isas()


def choose_isa(isa: str | None) -> str:
    """The wanted instruction set, or that of the setting `isa`, or the fastest.

    Raises:
        UsageError: the machine or this build does not have it.
        Unsupported: the machine has none that the core was built for.
    """
    known = available_isas()
    if not known:
        raise Unsupported(
            "this processor is not supported",
            "the core needs SSSE3 and SSE4.1 on x86-64",
            "run it on one of 2012 or later",
        )
    wanted = isa or get(ISA) or known[0]
    if wanted not in known:
        raise UsageError(
            f"instruction set {wanted!r} is not available",
            "it is unknown, or this machine or this build does not have it",
            f"choose one of {', '.join(known)}, or unset {ISA.variable}",
        )
    return wanted
