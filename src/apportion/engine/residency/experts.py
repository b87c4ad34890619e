"""The experts of one layer in their slots: hits at once, misses as they come from the disk."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np

from apportion._native import INTERLEAVED, ExpertTable
from apportion.core.errors import ApportionError
from apportion.engine.residency.counters import Counters, ExpertUses
from apportion.kernels.ops import Ints
from apportion.memory import Part, Priority, Slot, Slots, Ticket, parts_in_a_row
from apportion.models.units import LayerUnits, Unit
from apportion.plan.crowd import is_crowd, read_slots
from apportion.policies.expert_cache import ExpertCache
from apportion.policies.load_order import LoadOrder

MATRICES = ("ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight")
LONGEST_PART = 4  # experts of many tokens that are computed before the next reads are issued


class ExpertSlots:
    """Room for some of a layer's experts. An expert has a slot from when its read begins until it is given
    up; `table` says where it is from when its read is complete.

    One thread at a time. After an error it can be used again: what failed is read anew. `uses` counts what
    was asked for, expert by expert.

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
        self.uses = ExpertUses(units.num_experts)
        self._state = cache.state(units.num_experts, num_slots)
        self._load_order = load_order
        self._counters = counters
        self._parts = [_parts(unit, files) for unit in units.experts]
        self._starts = [_starts(unit, parts) for unit, parts in zip(units.experts, self._parts, strict=True)]
        self._num_read_slots = read_slots(num_slots, units.slot_nbytes)
        self._slots: dict[int, Slot] = {}
        self._arriving: dict[int, Ticket] = {}
        self._asked_s: dict[int, float] = {}  # when reads began that somebody waits for
        self._stuck: list[tuple[Ticket, Slot]] = []

    def acquire(self, ids: Ints, following: ExpertSlots | None = None) -> Iterator[Sequence[int]]:
        """The experts that tokens chose, ids [T, R], in parts, as `kernels.residency.Residency.acquire`.

        Args:
            following: the next layer that has experts, whose reads a crowd of tokens begins early.
        """
        if len(self._slots) > self.num_slots:
            self._trim()
        if len(ids) == 1:
            chosen: list[int] = ids[0].tolist()
            self._state.touch(chosen)
            return self._as_they_come(chosen)
        uses = np.bincount(ids.reshape(-1))
        by_use = np.argsort(-uses, kind="stable")[: np.count_nonzero(uses)]
        self._state.touch(by_use.tolist())
        return self._by_number(len(ids), sorted(by_use.tolist()), following)

    def found(self, chosen: Sequence[int]) -> None:
        """A token used these, all of which were there."""
        self._state.touch(chosen)
        self._count(1, chosen, chosen)

    def expect_all(self) -> None:
        """Begin to read the first experts that are missing: soon a crowd comes that needs almost all."""
        everyone = range(len(self._parts))
        self._make_way(everyone)
        for expert in everyone:
            if expert not in self._slots and not self._start(expert, everyone, is_prefetch=True):
                return

    def prefetch(self, expert: int) -> None:
        """Begin to read an expert that may be needed soon, if a slot can be had for it."""
        if expert not in self._slots:
            self._start(expert, self._arriving, is_prefetch=True)

    def recover(self) -> Iterable[Slot]:
        """Take stock after a run that was broken off anywhere: what is not complete is given up. The slots
        that are held; all others of the tier are nobody's. For a moment in which nothing is read.
        """
        for expert in list(self._slots):
            if expert in self._arriving or not self.table.holds(expert):
                self.table.clear(expert)
                self._state.forget(expert)
                del self._slots[expert]
        self._arriving.clear()
        self._asked_s.clear()
        self._stuck.clear()
        return self._slots.values()

    def resident(self) -> tuple[int, ...]:
        """Experts in memory now. Another thread may ask while this one works."""
        return tuple(expert for expert in list(self._slots) if expert not in self._arriving)

    def _as_they_come(self, chosen: Sequence[int]) -> Iterator[Sequence[int]]:
        slots, arriving = self._slots, self._arriving
        self._take_in()
        hits = [expert for expert in chosen if expert in slots and expert not in arriving]
        missing = deque(self._in_load_order([expert for expert in chosen if expert not in slots]))
        self._count(1, chosen, hits)
        needed = set(chosen)
        self._promote(needed)
        self._start_some(missing, needed)
        if hits:
            yield hits
            needed.difference_update(hits)
        while needed:
            self._start_some(missing, needed)
            wanted = [expert for expert in needed if expert in arriving]
            arrived = self._wait_for_any(wanted or list(arriving))  # what was read ahead may hold all slots
            if wanted:
                yield arrived
                needed.difference_update(arrived)

    def _by_number(
        self, num_tokens: int, chosen: Sequence[int], following: ExpertSlots | None
    ) -> Iterator[Sequence[int]]:
        """Every expert is read at most once: what is needed still is given up only to make way at first."""
        self._settle()
        self._make_way(chosen)
        missing = deque(expert for expert in chosen if expert not in self._slots)
        needed, coming = set(chosen), deque(chosen)
        hits = [expert for expert in chosen if expert in self._slots and expert not in self._arriving]
        self._count(num_tokens, chosen, hits)
        self._promote(needed)
        while coming:
            self._start_some(missing, needed)
            if not missing and following is not None:
                if is_crowd(len(chosen), len(self._parts)):
                    following.expect_all()
                following = None
            if coming[0] not in self._slots:  # what was read ahead holds all slots
                self._wait_for_any(list(self._arriving))
                continue
            part = self._next_part(coming)
            yield part
            needed.difference_update(part)

    def _count(self, num_tokens: int, chosen: Sequence[int], hits: Sequence[int]) -> None:
        """Experts that so many tokens chose, and those of them that are there."""
        self._counters.count(num_tokens, len(hits), len(chosen) - len(hits))
        for expert in chosen:
            self.uses.misses[expert] += 1
        for expert in hits:
            self.uses.misses[expert] -= 1
            self.uses.hits[expert] += 1

    def _take_in(self) -> None:
        """What was read ahead and has come is an expert like any other from here on."""
        for expert, ticket in list(self._arriving.items()):
            if self.tier.ready(ticket):
                self._wait({ticket: expert})

    def _make_way(self, chosen: Sequence[int]) -> None:
        """Have half of the slots for reading, or a few, where what is needed fills more: what is kept saves a
        read, but with few slots to read into, computing waits for the disk.
        """
        hits = [expert for expert in chosen if expert in self._slots and expert not in self._arriving]
        if len(hits) == len(chosen):
            return
        while len(hits) > self.num_slots - self._num_read_slots:
            expert = self._state.victim(hits)
            hits.remove(expert)
            self._give_up(expert)

    def _next_part(self, coming: deque[int]) -> list[int]:
        """The next experts by number, of which the first is waited for."""
        part: list[int] = []
        while coming and len(part) < LONGEST_PART:
            expert = coming[0]
            ticket = self._arriving.get(expert)
            if ticket is not None:
                if part and not self.tier.ready(ticket):
                    break
                self._wait_for_any([expert])
            elif expert not in self._slots:
                break
            part.append(coming.popleft())
        return part

    def _in_load_order(self, missing: list[int]) -> Sequence[int]:
        if len(missing) < 2:
            return missing
        firsts = [self._parts[expert][0] for expert in missing]
        return self._load_order.order(missing, [(part.file, part.offset) for part in firsts])

    def _start_some(self, missing: deque[int], needed: Collection[int]) -> None:
        while missing and self._start(missing[0], needed):
            missing.popleft()

    def _start(self, expert: int, needed: Collection[int], is_prefetch: bool = False) -> bool:
        """Begin to read an expert; False where no slot can be had for it."""
        slot = self._free_slot(needed)
        if slot is None:
            return False
        self._slots[expert] = slot
        priority: Priority = "prefetch" if is_prefetch else "demand"
        if not is_prefetch:
            self._asked_s[expert] = time.perf_counter()
        self._arriving[expert] = self.tier.fetch(slot, self._parts[expert], priority)
        return True

    def _free_slot(self, needed: Collection[int]) -> Slot | None:
        if len(self._slots) >= self.num_slots:
            arriving = self._arriving
            residents = [one for one in self._slots if one not in needed and one not in arriving]
            if not residents:
                return None
            self._give_up(self._state.victim(residents))
        return self.tier.take()

    def _give_up(self, expert: int) -> None:
        assert expert not in self._arriving, "it is being written to"
        self.table.clear(expert)
        self._state.forget(expert)
        self.tier.release(self._slots.pop(expert))

    def _promote(self, needed: Collection[int]) -> None:
        for expert in needed & self._arriving.keys() if self._arriving else ():
            self.tier.promote(self._arriving[expert])

    def _wait_for_any(self, experts: Sequence[int]) -> list[int]:
        """Those whose reads are complete, at least one of them."""
        waiting = {self._arriving[expert]: expert for expert in experts}
        began = time.perf_counter()
        arrived = [self._wait(waiting)]
        self._counters.expert_stall_s += time.perf_counter() - began
        arrived += [
            self._wait({ticket: expert}) for ticket, expert in waiting.items() if self._is_ready(ticket)
        ]
        return arrived

    def _is_ready(self, ticket: Ticket) -> bool:
        return ticket in self._arriving.values() and self.tier.ready(ticket)

    def _wait(self, waiting: Mapping[Ticket, int]) -> int:
        try:
            ticket = self.tier.wait_any(tuple(waiting))
        except ApportionError as error:
            failed = error.numbers.get("ticket")
            if isinstance(failed, int) and Ticket(failed) in waiting:
                self._lose(waiting[Ticket(failed)])
            raise
        assert ticket is not None
        expert = waiting[ticket]
        self.table.put(expert, self.tier.view(self._slots[expert]), *self._starts[expert])
        del self._arriving[expert]
        asked_s = self._asked_s.pop(expert, None)
        if asked_s is not None:
            self._counters.load_s.add(time.perf_counter() - asked_s)
        return expert

    def _lose(self, expert: int) -> None:
        """Its read failed. A read that is stuck may still write to the slot."""
        ticket, slot = self._arriving.pop(expert), self._slots.pop(expert)
        self._asked_s.pop(expert, None)
        self._state.forget(expert)
        self._stuck.append((ticket, slot))
        self._settle()

    def _settle(self) -> None:
        """Free the slots of failed reads that write no more."""
        for ticket, slot in list(self._stuck):
            if self.tier.settled(ticket):
                self._stuck.remove((ticket, slot))
                self.tier.release(slot)

    def _trim(self) -> None:
        """Give up what is more than there is room for, after the number of slots was lowered."""
        while len(self._slots) > self.num_slots:
            residents = self.resident()
            if not residents:
                self._wait_for_any(list(self._arriving))
                continue
            self._give_up(self._state.victim(residents))

    def shrink(self) -> int:
        """Do with one slot less, and give its memory back; the bytes. For a moment in which no step runs."""
        self.num_slots -= 1
        self._num_read_slots = min(self._num_read_slots, self.num_slots)
        self._trim()
        return self.tier.shrink(1) * self.tier.slot_nbytes

    def close(self) -> None:
        """Wait for reads, and give up all experts."""
        while self._arriving:
            with suppress(ApportionError):  # nobody asks for it any more
                self._wait_for_any(list(self._arriving))
        for expert in list(self._slots):
            self._give_up(expert)


def _parts(unit: Unit, files: Sequence[int]) -> tuple[Part, ...]:
    return parts_in_a_row((files[s.file], s.offset, s.nbytes) for s in unit.stretches)


def _starts(unit: Unit, parts: Sequence[Part]) -> tuple[int, int, int]:
    """Where gate, up and down begin in a slot."""
    places = {member.name: parts[member.stretch].first + member.start for member in unit.members}
    gate, up, down = (places[name] for name in MATRICES)
    return gate, up, down


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
