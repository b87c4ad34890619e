"""A step carried out by a model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar, cast

import numpy as np

from apportion.engine.executor import Rows, RunItem, Table
from apportion.formats.block import Floats
from apportion.kernels.kv import ALL_LIVE, KvPool, KvTable, Segment
from apportion.kernels.ops import BestOf, Ints
from apportion.kernels.steps import StatesOf
from apportion.models import Model
from apportion.models.hot_window import HotPool, HotWindow

R = TypeVar("R", bound=Rows)


class PoolTable(KvTable):
    """A sequence's blocks, all of one pool; where a codec asks for it, its first and its last positions are
    read as they were computed, out of blocks of another pool.
    """

    def __init__(self, pool: KvPool, hot: HotPool | None = None, most_hot: int = 0) -> None:
        super().__init__()
        self._pool = pool
        self._window = None if hot is None else HotWindow(self, hot, most_hot)

    def append(self, block: int, live: int = ALL_LIVE) -> None:  # type: ignore[override]
        super().append(self._pool, block, live)

    def exchange(self, index: int, block: int) -> None:
        if self._window is None or not self._window.exchange(index, self._pool, block):
            super().replace(index, self._pool, block)

    def close(self) -> None:
        """Give back what is hot."""
        if self._window is not None:
            self._window.close()

    def prepare(self, start: int, num_tokens: int) -> None:
        """Tokens are about to enter places start.. ."""
        if self._window is not None:
            self._window.prepare(start, num_tokens)

    def settle(self, start: int, num_tokens: int) -> None:
        """They have entered."""
        if self._window is not None:
            self._window.settle(start, start + num_tokens)


class ModelExecutor:
    """`engine.executor.Executor` of a model over a pool of blocks, and one for hot blocks where the codec of
    keys and values has such: of these each sequence may have as many as it can need.

    Items for all layers run in one pass. Where ranges of layers differ, layers that all of them pass are
    computed together, and hidden states of tokens that are on their way wait here.
    """

    def __init__(
        self, model: Model, pool: KvPool, hot: KvPool | None = None, hot_each: int = 0, ctx: int = 0
    ) -> None:
        """
        Args:
            hot: the pool for hot blocks, `hot_each` of them for a sequence.
            ctx: positions that a sequence may come to have, by which LongRoPE chooses its factors.
        """
        self._model = model
        self._pool = pool
        self._hot = None if hot is None else HotPool(hot)
        self._hot_each = hot_each
        self._ctx = ctx
        self._hidden: dict[int, Floats] = {}

    @property
    def num_layers(self) -> int:
        return self._model.config.num_layers

    @property
    def streams(self) -> bool:
        return self._model.residency is not None

    @property
    def finds_best(self) -> bool:
        return True

    @property
    def layer(self) -> int:
        residency = self._model.residency
        return 0 if residency is None else residency.layer

    def new_table(self) -> PoolTable:
        return PoolTable(self._pool, self._hot, self._hot_each)

    def release(self, table: Table) -> None:
        assert isinstance(table, PoolTable)
        table.close()

    def run(self, items: Sequence[RunItem]) -> Sequence[Rows | None]:
        if self._hot is None:
            return self._run(items)
        for item in items:
            if item.first_layer == 0:
                item.table.prepare(item.start, len(item.ids))  # type: ignore[attr-defined]
        rows = self._run(items)
        for item in items:
            if item.end_layer == self.num_layers:
                item.table.settle(item.start, len(item.ids))  # type: ignore[attr-defined]
        return rows

    def _run(self, items: Sequence[RunItem]) -> Sequence[Rows | None]:
        last = self.num_layers
        if all(item.first_layer == 0 and item.end_layer == last for item in items):
            return self._run_whole(items)
        hidden = dict(self._hidden)
        marks = sorted({layer for item in items for layer in (item.first_layer, item.end_layer)})
        for begin, end in pairwise(marks):
            some = [item for item in items if item.first_layer <= begin and item.end_layer >= end]
            if some:
                self._pass_layers(some, begin, end, hidden)
        rows = self._answers(items, last_states(items, hidden))
        observe(items, hidden)
        for item in items:
            if item.end_layer == last:
                del hidden[item.request]
        self._hidden = hidden  # only now: a run that fails leaves what it began with
        return rows

    def watch(self, is_wanted: Callable[[], bool]) -> None:
        if self._model.residency is not None:
            self._model.residency.is_wanted = is_wanted

    def forget(self, requests: Collection[int]) -> None:
        for request in requests:
            self._hidden.pop(request, None)

    def _run_whole(self, items: Sequence[RunItem]) -> Sequence[Rows | None]:
        ids, batch = joined_ids(items), segments(items)
        if any(item.observe is not None for item in items):
            x = self._model.run(ids, batch, want="hidden", context=self._ctx)
            hidden = split(x, items)
            rows = self._answers(items, last_states(items, hidden))
            observe(items, hidden)
            return rows
        kinds = self._kinds(items)
        if not kinds:
            self._model.run(ids, batch, want="hidden", context=self._ctx)
            return [None] * len(items)
        if len(kinds) > 1:
            x = self._model.run(ids, batch, want=StatesOf(wanted_rows(items)), context=self._ctx)
            return self._answers(items, x)
        wanted = None if all(item.num_logits == 1 for item in items) else wanted_rows(items)
        if kinds[0] is not None:
            return dealt(self._model.run_best(ids, batch, kinds[0], wanted, self._ctx), items)
        logits = self._model.run(ids, batch, want="last" if wanted is None else wanted, context=self._ctx)
        return dealt(logits, items)

    def _kinds(self, items: Sequence[RunItem]) -> list[BestOf | None]:
        """What items ask for, each kind once. Where all logits are computed in any case, who wants the best
        of them alone is given the same as who wants them all.
        """
        kinds = list(dict.fromkeys([item.best for item in items if item.num_logits]))
        return [None] if len(kinds) > 1 and not self._model.finds_best else kinds

    def _answers(self, items: Sequence[RunItem], x: Floats) -> Sequence[Rows | None]:
        """What items ask for, by the states x [n, H] after the last layer of their last tokens."""
        kinds = self._kinds(items)
        if len(kinds) == 1:
            return dealt(self._answer(x, kinds[0]), items)
        states = dict(zip((item.request for item in items), dealt(x, items), strict=True))
        rows: dict[int, Rows | None] = {}
        for best in kinds:
            alike = [item for item in items if item.num_logits and item.best == best]
            found = self._answer(np.concatenate([states[item.request] for item in alike]), best)
            rows |= zip((item.request for item in alike), dealt(found, alike), strict=True)
        return [rows.get(item.request) for item in items]

    def _answer(self, x: Floats, best: BestOf | None) -> Rows:
        if best is None:
            return self._model.head(x)
        return self._model.best(x, best)

    def _pass_layers(self, items: Sequence[RunItem], begin: int, end: int, hidden: dict[int, Floats]) -> None:
        """Layers begin..end - 1 for the items' tokens, together."""
        fresh = [item for item in items if item.first_layer == begin == 0]
        if fresh:
            x = self._model.embed(joined_ids(fresh))
            hidden.update(split(x, fresh))
        x = np.concatenate([hidden[item.request] for item in items])
        x = self._model.run(x, segments(items), first=begin, last=end, want="hidden", context=self._ctx)
        hidden.update(split(x, items))


def joined_ids(items: Sequence[RunItem]) -> Ints:
    """The tokens of all items; of one decoding request, its array as it is."""
    return items[0].ids if len(items) == 1 else np.concatenate([item.ids for item in items])


def segments(items: Sequence[RunItem]) -> list[Segment]:
    """Where the items' tokens go."""
    return [Segment(item.table, item.start, len(item.ids), item.position) for item in items]  # type: ignore[arg-type]


def split(x: Floats, items: Sequence[RunItem]) -> dict[int, Floats]:
    """Rows of several items, by request."""
    parts = np.split(x, np.cumsum([len(item.ids) for item in items])[:-1])
    return {item.request: part for item, part in zip(items, parts, strict=True)}


def wanted_rows(items: Sequence[RunItem]) -> Ints:
    """The numbers of the tokens whose logits are wanted, among all items' tokens."""
    wanted: list[int] = []
    end = 0
    for item in items:
        end += len(item.ids)
        wanted += range(end - item.num_logits, end)
    return np.array(wanted, np.int32)


def last_states(items: Sequence[RunItem], hidden: Mapping[int, Floats]) -> Floats:
    """Of the states [n, H] of each item's tokens, by request, those of the tokens whose logits are wanted."""
    return np.concatenate([hidden[item.request][len(item.ids) - item.num_logits :] for item in items])


def observe(items: Sequence[RunItem], hidden: Mapping[int, Floats]) -> None:
    """Show the states after the last layer to whom they are for."""
    for item in items:
        if item.observe is not None:
            item.observe(hidden[item.request])


def dealt(rows: R, items: Sequence[RunItem]) -> list[R | None]:
    """Each item's rows, of those of all."""
    if len(items) == 1 and items[0].num_logits:
        return [rows]
    own: list[R | None] = []
    first = 0
    for item in items:
        own.append(cast("R", rows[first : first + item.num_logits]) if item.num_logits else None)
        first += item.num_logits
    return own
