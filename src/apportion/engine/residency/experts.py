"""The experts of one layer in their slots: who is read, and who makes way."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from apportion._native import INTERLEAVED, ExpertTable
from apportion.core.errors import ApportionError, DiskStuck
from apportion.engine.residency.counters import Counters, ExpertUses
from apportion.kernels.ops import Ints
from apportion.memory import ExpertPlaces, Slots, parts_in_a_row
from apportion.models.units import LayerUnits, Unit
from apportion.plan.crowd import is_crowd, num_leaving, read_slots
from apportion.policies.expert_cache import ExpertCache
from apportion.policies.load_order import LoadOrder

MATRICES = ("ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight")
LONGEST_PART = 4  # experts of many tokens that are computed before the next reads are issued


class ExpertSlots:
    """Room for some of a layer's experts. An expert has a slot from when its read begins until it is given
    up; `table` says where it is from when its read is complete.

    One thread at a time. After an error it can be used again: what failed is read anew.

    Args:
        num_slots: at least 2, within what the tier has for this layer.
        tier: where experts that are present lie.
        files: the tier's numbers of the checkpoint's files.
    """

    def __init__(
        self,
        units: LayerUnits,
        num_slots: int,
        tier: Slots,
        files: Sequence[int],
        cache: ExpertCache,
        load_order: LoadOrder,
        counters: Counters,
        threads: int,
    ) -> None:
        self.num_slots = num_slots
        self.table = _table(units, threads)
        self.tier = tier
        self._places = [_places(unit, files) for unit in units.experts]
        self._shelf = tier.shelf(self.table, counters.expert_times, self._places)
        self._state = cache.state(units.num_experts, num_slots)
        self._load_order = load_order
        self._counters = counters
        self._num_read_slots = read_slots(num_slots, units.slot_nbytes)

    def acquire(self, ids: Ints, following: ExpertSlots | None = None) -> Iterator[Sequence[int]]:
        """The experts that tokens chose, ids [T, R], in parts, as `kernels.residency.Residency.acquire`.

        Args:
            following: the next layer that has experts, whose reads a crowd of tokens begins early.
        """
        if self._shelf.num_held > self.num_slots:
            self._trim()
        if len(ids) == 1:
            chosen: list[int] = ids[0].tolist()
            self._state.touch(chosen)
            return self._of_one(chosen)
        uses = np.bincount(ids.reshape(-1))
        by_use = np.argsort(-uses, kind="stable")[: np.count_nonzero(uses)]
        self._state.touch(by_use.tolist())
        return self._by_number(len(ids), sorted(by_use.tolist()), following)

    def passed(self, chosen: Sequence[int], num_here: int, left: Sequence[int]) -> None:
        """A token used these, so many of which were there; the shelf has counted them, and let others go."""
        self._state.touch(chosen)
        for expert in left:
            self._state.forget(expert)
        self._counters.count(1, num_here, len(chosen) - num_here)
        self._check()
        self._let_go()

    def _let_go(self) -> None:
        """Decide ahead who leaves, so that the next token need not stop here."""
        if self._load_order.as_asked:
            self._shelf.let_go(self.num_slots, self._state.leaving(self._shelf.here(())))

    def expect_all(self) -> None:
        """Begin to read the first experts that are missing: soon a crowd comes that needs almost all."""
        everyone = range(len(self._places))
        self._make_way(everyone)
        for expert in everyone:
            if not self._shelf.holds(expert) and not (self._has_room and self._shelf.start(expert, True)):
                return

    def prefetch(self, expert: int) -> None:
        """Begin to read an expert that may be needed soon, if a slot can be had for it."""
        if not self._shelf.holds(expert) and (self._has_room or self._evict(self._leaving())):
            self._shelf.start(expert, True)

    def recover(self) -> None:
        """Take stock after a run that was broken off anywhere: what is not there is given up. For a moment in
        which nothing is read.
        """
        for expert in self._shelf.recover():
            self._state.forget(expert)

    def resident(self) -> tuple[int, ...]:
        """Experts in memory now. Another thread may ask while this one works."""
        return tuple(self._shelf.here(()))

    @property
    def uses(self) -> ExpertUses:
        """What was asked for, expert by expert."""
        return ExpertUses(*self._shelf.uses())

    def _of_one(self, chosen: Sequence[int]) -> Iterator[Sequence[int]]:
        shelf = self._shelf
        if shelf.num_coming:
            shelf.take_in()
        self._check()
        missing = deque(self._load_order.order(self._ask(1, chosen), self._place))
        while chosen:
            self._start_some(missing, chosen)
            part = chosen
            if missing:  # slots are few: what makes way for more comes first
                part = [expert for expert in chosen if shelf.is_ready(expert)]
                part = part or [expert for expert in chosen if shelf.holds(expert)][:1]
            if not part:  # what was read ahead holds all slots
                self._wait()
                continue
            yield part
            self._check()
            chosen = [expert for expert in chosen if expert not in part] if missing else ()
        self._let_go()

    def _by_number(
        self, num_tokens: int, chosen: Sequence[int], following: ExpertSlots | None
    ) -> Iterator[Sequence[int]]:
        """Every expert is read at most once: what is needed still is given up only to make way at first."""
        self._shelf.settle()
        self._make_way(chosen)
        missing, coming = deque(self._ask(num_tokens, chosen)), deque(chosen)
        while coming:
            self._start_some(missing, coming)
            if not missing and following is not None:
                if is_crowd(len(chosen), len(self._places)):
                    following.expect_all()
                following = None
            if not self._shelf.holds(coming[0]):  # what was read ahead holds all slots
                self._wait()
                continue
            part = [coming.popleft()]
            longest = LONGEST_PART if missing else len(chosen)
            while coming and len(part) < longest and self._shelf.is_ready(coming[0]):
                part.append(coming.popleft())
            yield part
            self._check()
        self._let_go()

    def _ask(self, num_tokens: int, chosen: Sequence[int]) -> list[int]:
        """Experts that so many tokens chose: those of them that have no slot."""
        hits, missing = self._shelf.ask(chosen)
        self._counters.count(num_tokens, hits, len(chosen) - hits)
        return missing

    def _check(self) -> None:
        """Raises what keeps an expert away that was waited for, here or in the core."""
        if self._shelf.has_failed and (failure := self._shelf.failure()) is not None:
            expert, error = failure
            self._state.forget(expert)
            raise error

    def _make_way(self, chosen: Sequence[int]) -> None:
        """Where what is needed has not room at once, have slots to read into: half of them, or a few, and no
        more than is missing. What is kept saves a read, but with few such slots computing waits for the disk.
        """
        needed = set(chosen)
        hits = [expert for expert in self._shelf.here(()) if expert in needed]
        count = num_leaving(self.num_slots, self._num_read_slots, len(needed), len(hits))
        if count:
            leaving = deque(self._state.leaving(hits))
            for _ in range(count):
                self._evict(leaving)

    def _place(self, expert: int) -> tuple[int, int]:
        first = self._places[expert].parts[0]
        return first.file, first.offset

    def _start_some(self, missing: deque[int], needed: Sequence[int]) -> None:
        """Begin to read what is missing, as far as there are slots that nothing needed is in."""
        leaving: deque[int] | None = None
        while missing:
            if not self._has_room:
                if leaving is None:
                    leaving = self._leaving(needed)
                if not self._evict(leaving):
                    return
            if not self._shelf.start(missing[0]):
                return
            missing.popleft()

    @property
    def _has_room(self) -> bool:
        return self._shelf.num_held < self.num_slots

    def _leaving(self, needed: Sequence[int] = ()) -> deque[int]:
        """Experts that are there, but these, in the order in which to give them up."""
        return deque(self._state.leaving(self._shelf.here(needed)))

    def _evict(self, leaving: deque[int]) -> bool:
        """Give up the first of these; False where there is none."""
        if not leaving:
            return False
        expert = leaving.popleft()
        self._state.forget(expert)
        self._shelf.give_up(expert)
        return True

    def _wait(self) -> None:
        """Until one more is there."""
        if not self._shelf.num_coming and self._shelf.settle():
            raise DiskStuck(
                "no slot is free for an expert",
                "reads that failed may still write to them",
                "look whether the disk or its network is still there",
                slots=self.num_slots,
            )
        self._shelf.wait()
        self._check()

    def _trim(self) -> None:
        """Give up what is more than there is room for, after the number of slots was lowered."""
        while self._shelf.num_held > self.num_slots:
            if not self._evict(self._leaving()):
                self._wait()

    def shrink(self) -> int:
        """Do with one slot less, and give its memory back; the bytes. For a moment in which no step runs."""
        self.num_slots -= 1
        self._num_read_slots = min(self._num_read_slots, self.num_slots)
        self._trim()
        self._let_go()
        return self.tier.shrink(1) * self.tier.slot_nbytes

    def close(self) -> None:
        """Wait for reads, and give up all experts."""
        while self._shelf.num_coming:
            with suppress(ApportionError):  # nobody asks for it any more
                self._wait()
        self._shelf.close()


def _places(unit: Unit, files: Sequence[int]) -> ExpertPlaces:
    parts = parts_in_a_row((files[s.file], s.offset, s.nbytes) for s in unit.stretches)
    at = {member.name: parts[member.stretch].first + member.start for member in unit.members}
    gate, up, down = (at[name] for name in MATRICES)
    return ExpertPlaces(parts, (gate, up, down))


def _table(units: LayerUnits, threads: int) -> ExpertTable:
    members = {member.name: member for member in units.experts[0].members}
    gate, up, down = (
        (
            members[name].format.ggml_type | (INTERLEAVED if members[name].interleaved else 0),
            members[name].shape[0],
            members[name].shape[1],
        )
        for name in MATRICES
    )
    return ExpertTable(units.num_experts, gate, up, down, threads)
