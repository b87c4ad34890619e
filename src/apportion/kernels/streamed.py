"""Programs whose weights come and go: run in pieces, with a word from the residency where one ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import cast

import numpy as np

from apportion.formats.block import Floats
from apportion.kernels.eager import RouteObserver
from apportion.kernels.kv import Segment
from apportion.kernels.ops import BestOf, Ints
from apportion.kernels.record import NativeBest, NativeProgram, Recorder, Value, natives
from apportion.kernels.residency import Residency, RouterView
from apportion.kernels.steps import Forward


class StreamedProgram(NativeProgram):
    """`kernels.steps.Program` on the core, one layer after the other for all tokens of a run.

    Raises, beside what programs raise: ApportionError where a weight could not be read. The run has then
    written some keys and values; another run can follow.
    """

    def __init__(self, forward: Forward, isa: str, threads: int, exact: bool, residency: Residency) -> None:
        self._residency = residency
        self._running = Lock()
        self._observe: RouteObserver | None = None
        super().__init__(forward, isa, threads, exact)
        tables = [residency.expert_table(layer) for layer in range(forward.num_layers)]
        self._routed = [layer for layer, table in enumerate(tables) if table is not None]
        self._per_token = residency.experts_per_token

    def _enter(self, forward: Forward, steps: Recorder) -> Value:
        if self._residency.reads_embedding:
            return steps.input(forward.hidden_size)
        return forward.embed(steps)

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
        with self._running:
            self._residency.begin_run()
            x = self._entering(source)
            chunk, check = self._residency.chunk, self._residency.check_wanted
            self._native.begin(natives(batch), x, first, last, want, rows, out, of, chunk, check)
            self._pass_layers(len(source), first, last)
            found = self._native.end()
            self._residency.end_run()
        return found

    @contextmanager
    def observed_by(self, observe: RouteObserver) -> Iterator[None]:
        """Runs inside the block tell the routes of layers whose experts come and go; one block at a time."""
        self._observe = observe
        try:
            yield
        finally:
            self._observe = None

    def _entering(self, source: Ints | Floats) -> Ints | Floats:
        """What the core takes for tokens or hidden states."""
        if self._residency.reads_embedding and source.ndim == 1:
            return self._residency.embed(cast("Ints", source))
        return source

    def _pass_layers(self, num_tokens: int, first: int, last: int) -> None:
        routed = iter([layer for layer in self._routed if first <= layer < last])
        chosen = np.empty((num_tokens, self._per_token), np.int32)
        may_pass = num_tokens == 1 and not self._is_watched
        for layer in (*self._residency.streamed_layers, last):
            if not first <= layer <= last:
                continue
            while self._advance(layer, may_pass, routed):
                self._mix_experts(next(routed), chosen)
            if layer < last:
                self._residency.require(layer)

    @property
    def _is_watched(self) -> bool:
        """Whether somebody is to be told every route."""
        residency = self._residency
        return self._observe is not None or residency.watches_routers or residency.routes

    def _advance(self, layer: int, may_pass: bool, routed: Iterator[int]) -> bool:
        """To `layer`, or to experts that somebody has to decide about. A single token passes those that are
        there or can be brought as was decided ahead; what it used is told afterwards.
        """
        try:
            return self._native.advance(layer, may_pass)
        finally:
            for passed in self._native.passed() if may_pass else ():
                self._residency.passed(next(routed), *passed)

    def _mix_experts(self, layer: int, chosen: Ints) -> None:
        self._native.chosen(chosen)
        view = None
        if self._observe is not None or self._residency.watches_routers:
            view = self._view_router(chosen)
        if self._observe is not None and view is not None:
            self._observe(layer, chosen, view.weights, view.inputs)
        others = self._residency.route(layer, chosen)
        if others is not None:
            self._native.choose(others)
            chosen = others
        self._native.start_experts()
        for experts in self._residency.acquire(layer, chosen, view):
            self._native.apply(experts)
        self._native.pass_on()

    def _view_router(self, chosen: Ints) -> RouterView:
        widths = (self._hidden_size, self._residency.num_experts, chosen.shape[1])
        inputs, scores, weights = (np.empty((len(chosen), width), np.float32) for width in widths)
        self._native.router_view(inputs, weights, scores)
        return RouterView(inputs, scores, weights)
