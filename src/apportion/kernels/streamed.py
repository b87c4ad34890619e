"""Programs whose weights come and go: run in pieces, with a word from the residency where one ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import cast

import numpy as np

from apportion.formats.block import Floats
from apportion.kernels.eager import RouteObserver, last_rows
from apportion.kernels.kv import Segment
from apportion.kernels.ops import Best, BestOf, Ints
from apportion.kernels.record import NativeProgram, Recorder, Value, natives
from apportion.kernels.residency import Residency, RouterView
from apportion.kernels.steps import Forward, StatesOf, Want


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

    def run(
        self,
        source: Ints | Floats,
        batch: Sequence[Segment] | None,
        first: int = 0,
        last: int | None = None,
        want: Want = "last",
    ) -> Floats:
        last = self._num_layers if last is None else last
        wanted, rows, out = self._wanted(len(source), batch, want)
        with self._running:
            self._residency.begin_run()
            x = self._entering(source)
            self._native.begin(natives(batch), x, first, last, wanted, rows, out, self._residency.chunk)
            self._pass_layers(len(source), first, last)
            self._native.end()
            self._residency.end_run()
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
        x = self.run(source, batch, first, want=StatesOf(last_rows(batch) if rows is None else rows))
        all_rows = np.arange(len(x), dtype=np.int32)
        with self._running:
            return super().best(x, None, of, all_rows, self._num_layers, by_bounds)

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
        for layer in (*self._residency.streamed_layers, last):
            if not first <= layer <= last:
                continue
            while self._native.advance(layer):
                self._mix_experts(next(routed), chosen)
            if layer < last:
                self._residency.require(layer)

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
