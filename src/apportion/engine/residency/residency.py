"""Which weights are in memory now, and how the others get there while a model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from apportion._native import ExpertTable
from apportion.core.claim import Kind
from apportion.core.errors import BrokenOff, DiskStuck
from apportion.engine.residency.counters import Counters, ExpertUses
from apportion.engine.residency.experts import ExpertSlots
from apportion.engine.residency.layers import LayerRing
from apportion.engine.residency.rows import EmbeddingRows
from apportion.formats.block import Floats
from apportion.kernels.ops import Ints
from apportion.kernels.residency import RouterView
from apportion.kernels.weight import Weight
from apportion.memory import Demand, Ledger, MakeSlots, RamSlots, Reader, ReadFault, Slots
from apportion.models.config import ModelConfig
from apportion.models.units import LayerUnits, ModelUnits
from apportion.plan import Plan
from apportion.policies import EXPERT_CACHES, LOAD_ORDERS, PREDICTIONS

CHUNK = 512  # tokens that pass a layer at a time; beyond it products gain little

OnRoute: TypeAlias = Callable[[int, Ints], Ints | None]
"""Told a layer and the experts that tokens chose there, ids [T, R]; gives others in their place, or None."""


class Residency:
    """`kernels.residency.Residency` by a plan: leases what it needs, and reads the checkpoint's files.

    Args:
        files: of the checkpoint, in its order.
        ledger: pays for slots and buffers.
        threads: that rearrange what was read.
        faults: for tests: which reads go wrong.

    Raises:
        DoesNotFit: the ledger has not enough left.
        NotFound, BadFile, DiskFault: a file cannot be opened.
    """

    def __init__(
        self,
        config: ModelConfig,
        units: ModelUnits,
        plan: Plan,
        files: Sequence[Path],
        ledger: Ledger,
        threads: int,
        *,
        faults: Sequence[ReadFault] = (),
        stuck_after_s: float = 30.0,
    ) -> None:
        self.counters = Counters()
        self.on_route: OnRoute | None = None
        self.experts_per_token = config.experts.routing.top_k if config.experts else 0
        self.chunk = CHUNK
        self.is_wanted: Callable[[], bool] | None = None  # the run under way, still
        self.layer = 0
        self._running = False  # also after a run that was broken off
        self.num_experts = config.experts.num_experts if config.experts else 0
        with ExitStack() as stack:
            self.reader = stack.enter_context(Reader(faults=faults, stuck_after_s=stuck_after_s))
            numbers = [self.reader.open(path) for path in files]
            make_slots = partial(RamSlots, ledger, self.reader)
            self._tiers: dict[int, Slots] = {}
            self._experts = self._expert_slots(units, plan, make_slots, numbers, threads, stack)
            layers = list(self._experts.values())
            self._following = dict(zip(self._experts, layers[1:], strict=False))
            self._ring = self._layer_ring(units, plan, make_slots, numbers, threads, stack)
            self._rows = self._embedding_rows(config, units, plan, make_slots, numbers, stack)
            self._prediction = PREDICTIONS.choose(plan.policies.prediction)
            self.watches_routers = plan.policies.prediction != PREDICTIONS.baseline
            stack.enter_context(ledger.subscribed(self.give_back))
            self._stack = stack.pop_all()
        self.streamed_layers = plan.streamed_layers

    def _expert_slots(
        self,
        units: ModelUnits,
        plan: Plan,
        make_slots: MakeSlots,
        files: Sequence[int],
        threads: int,
        stack: ExitStack,
    ) -> dict[int, ExpertSlots]:
        """The layers whose experts come and go; those with slots of one size share them."""
        cache = EXPERT_CACHES.choose(plan.policies.expert_cache)
        load_order = LOAD_ORDERS.choose(plan.policies.load_order)
        counts = {
            layer.layer: slots
            for layer, slots in zip(units.layers, plan.expert_slots, strict=True)
            if slots < layer.num_experts
        }
        streamed = [layer for layer in units.layers if layer.layer in counts]
        for nbytes in sorted({layer.slot_nbytes for layer in streamed}):
            total = sum(counts[layer.layer] for layer in streamed if layer.slot_nbytes == nbytes)
            self._tiers[nbytes] = make_slots(Kind.EXPERT_SLOTS, nbytes, total)
            stack.callback(self._tiers[nbytes].close)
        found: dict[int, ExpertSlots] = {}
        for layer in streamed:
            slots = ExpertSlots(
                layer,
                counts[layer.layer],
                self._tiers[layer.slot_nbytes],
                files,
                cache,
                load_order,
                self.counters,
                threads,
            )
            stack.callback(slots.close)
            found[layer.layer] = slots
        return found

    def _layer_ring(
        self,
        units: ModelUnits,
        plan: Plan,
        make_slots: MakeSlots,
        files: Sequence[int],
        threads: int,
        stack: ExitStack,
    ) -> LayerRing | None:
        if not plan.streamed_layers:
            return None
        layers: list[LayerUnits] = [units.layers[layer] for layer in plan.streamed_layers]
        ring = LayerRing(layers, plan.stream_buffers, make_slots, files, self.counters, threads)
        stack.callback(ring.close)
        return ring

    def _embedding_rows(
        self,
        config: ModelConfig,
        units: ModelUnits,
        plan: Plan,
        make_slots: MakeSlots,
        files: Sequence[int],
        stack: ExitStack,
    ) -> EmbeddingRows | None:
        if plan.embedding == "resident":
            return None
        assert units.embedding is not None
        file = files[units.embedding.stretches[0].file]
        rows = EmbeddingRows(units.embedding, file, config.embedding_scale, make_slots, self.counters)
        stack.callback(rows.close)
        return rows

    @property
    def reads_embedding(self) -> bool:
        return self._rows is not None

    def expert_table(self, layer: int) -> ExpertTable | None:
        slots = self._experts.get(layer)
        return None if slots is None else slots.table

    def dense_weights(self, layer: int) -> Mapping[str, Weight] | None:
        return None if self._ring is None else self._ring.weights(layer)

    def begin_run(self) -> None:
        if self._running:
            self._recover()
        self._running = True
        self.layer = 0

    def end_run(self) -> None:
        self._running = False
        self.layer = 0

    def _recover(self) -> None:
        """Make good what a run left that was broken off, by an error or by Ctrl-C, at any point."""
        self.reader.forget_all()
        for slots in self._experts.values():
            slots.recover()
        if self._ring is not None:
            self._ring.recover()
        self._running = False

    def _reach(self, layer: int) -> None:
        """A run has come to a layer that costs reads; a good place to end it where nobody waits for it."""
        self.layer = layer
        self.check_wanted()

    def check_wanted(self) -> None:
        if self.is_wanted is not None and not self.is_wanted():
            raise BrokenOff("a pass over the layers was broken off", "all of its requests were cancelled")

    def require(self, layer: int) -> None:
        assert self._ring is not None
        self._reach(layer)
        self._ring.require(layer)

    def route(self, layer: int, ids: Ints) -> Ints | None:
        return None if self.on_route is None else self.on_route(layer, ids)

    @property
    def routes(self) -> bool:
        return self.on_route is not None

    def passed(self, layer: int, experts: Sequence[int], num_here: int, left: Sequence[int]) -> None:
        self._experts[layer].passed(experts, num_here, left)

    def acquire(self, layer: int, ids: Ints, view: RouterView | None = None) -> Iterator[Sequence[int]]:
        self._reach(layer)
        parts = self._experts[layer].acquire(ids, self._following.get(layer))
        if view is not None:
            parts = self._reading_ahead(layer, ids, view, parts)
        return parts

    def _reading_ahead(
        self, layer: int, ids: Ints, view: RouterView, parts: Iterator[Sequence[int]]
    ) -> Iterator[Sequence[int]]:
        """The same parts; what the prediction names is read behind the first part's own reads."""
        first = next(parts)
        chosen = sorted(set(ids.reshape(-1).tolist()))
        for to, expert in self._prediction.predict(layer, view.inputs, view.scores, chosen):
            if to != layer and to in self._experts and 0 <= expert < self.num_experts:
                self._experts[to].prefetch(expert)
        yield first
        yield from parts

    def embed(self, ids: Ints) -> Floats:
        assert self._rows is not None
        return self._rows.read(ids)

    def resident_experts(self) -> dict[int, tuple[int, ...]]:
        """By layer, the experts that are in their slots now; of layers whose experts come and go."""
        return {layer: slots.resident() for layer, slots in self._experts.items()}

    def expert_uses(self) -> dict[int, ExpertUses]:
        """By layer, how often each expert was found and how often it was read; of the same layers."""
        return {layer: slots.uses for layer, slots in self._experts.items()}

    @property
    def num_slots(self) -> int:
        """Experts that there is room for, of all those layers."""
        return sum(slots.num_slots for slots in self._experts.values())

    def give_back(self, demand: Demand) -> None:
        """Give up expert slots until so many bytes are free, each layer in turn; 2 of each layer stay. For a
        moment in which no step runs.
        """
        if self._running:
            self._recover()
        left = demand.nbytes
        while left > 0:
            largest = max(self._experts.values(), key=lambda slots: slots.num_slots, default=None)
            if largest is None or largest.num_slots <= 2:
                return
            left -= largest.shrink()

    def close(self) -> None:
        """Wait for what is read, and give everything back. Closing twice is allowed."""
        if self._running:
            with suppress(DiskStuck):  # closing the reader says it again
                self._recover()
        self._stack.close()

    def release(self) -> None:
        """Give back what the model's weights were in, once they have gone, after `close`."""
        if self._ring is not None:
            self._ring.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
