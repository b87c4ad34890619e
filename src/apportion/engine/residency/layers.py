"""Layers that do not stay in memory: their dense parts pass through a ring of buffers, read ahead.

Layer number i of those that stream always lands in buffer i mod n, so that a program knows its addresses:

    buffer 0   | layer 3 computes | layer 5 is read  ...
    buffer 1   | layer 4 is read  | layer 4 computes ...
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from apportion.core.claim import Kind
from apportion.core.errors import ApportionError
from apportion.engine.residency.counters import Counters
from apportion.formats.block import Bytes
from apportion.kernels.weight import Weight
from apportion.memory import MakeSlots, Part, Slot, Slots, Ticket, parts_in_a_row
from apportion.models.units import LayerUnits, Member


class LayerRing:
    """The streamed layers' dense parts, in the order in which passes need them. One thread at a time.

    Args:
        layers: at least one, all of which can stream.
        num_buffers: at least 2.
        make_slots: makes the buffers.
        files: the tier's numbers of the checkpoint's files.
    """

    def __init__(
        self,
        layers: Sequence[LayerUnits],
        num_buffers: int,
        make_slots: MakeSlots,
        files: Sequence[int],
        counters: Counters,
        threads: int,
    ) -> None:
        num_buffers = min(num_buffers, len(layers))
        largest = max(layer.dense_slot_nbytes for layer in layers)
        self._tier = make_slots(Kind.IO_BUFFERS, largest, num_buffers)
        self._slots = [_taken(self._tier) for _ in range(num_buffers)]
        self._inside: list[int | None] = [None] * num_buffers  # which number is complete in each buffer
        self._arriving: dict[int, Ticket] = {}  # by buffer
        self._aimed: list[int | None] = [None] * num_buffers  # which number is read into each buffer
        self._stuck: dict[int, tuple[Ticket, ApportionError]] = {}
        self._counters = counters
        self._threads = threads
        self._numbers = {units.layer: number for number, units in enumerate(layers)}
        self._parts: list[tuple[Part, ...]] = []
        self._weights: list[dict[str, Weight]] = []
        for number, units in enumerate(layers):
            assert units.dense is not None
            parts = parts_in_a_row((files[s.file], s.offset, s.nbytes) for s in units.dense.stretches)
            view = self._tier.view(self._slots[number % num_buffers])
            self._parts.append(parts)
            self._weights.append(
                {
                    member.name: _as_read(member, view[parts[member.stretch].first + member.start :])
                    for member in units.dense.members
                }
            )

    def weights(self, layer: int) -> Mapping[str, Weight] | None:
        """The matrices of a layer as they are once it was required; None where it does not stream."""
        number = self._numbers.get(layer)
        if number is None:
            return None
        return {name: _as_used(weight) for name, weight in self._weights[number].items()}

    def require(self, layer: int) -> None:
        """Return when the layer is in its buffer. Those that come next are read meanwhile, and while it
        computes.
        """
        number = self._numbers[layer]
        buffer = number % len(self._slots)
        if buffer in self._arriving and self._aimed[buffer] != number:
            self._wait(buffer)  # a run that was given up wanted another
        self._start(number)
        for ahead in range(1, len(self._slots)):
            following = (number + ahead) % len(self._parts)
            if following % len(self._slots) != buffer:
                self._start(following)
        if self._inside[buffer] != number:
            began = time.perf_counter()
            self._wait(buffer)
            self._counters.layer_stall_s += time.perf_counter() - began
            self._arrange(number)

    def recover(self) -> None:
        """Take stock after a run that was broken off anywhere. For a moment in which nothing is read."""
        self._arriving.clear()
        self._stuck.clear()

    def _start(self, number: int) -> None:
        buffer = number % len(self._slots)
        if self._inside[buffer] == number or buffer in self._arriving:
            return
        if buffer in self._stuck:  # it may still be written to
            ticket, error = self._stuck[buffer]
            if not self._tier.settled(ticket):
                raise error
            del self._stuck[buffer]
        self._inside[buffer] = None
        self._aimed[buffer] = number
        self._arriving[buffer] = self._tier.fetch(self._slots[buffer], self._parts[number])
        self._counters.layer_reads += 1

    def _wait(self, buffer: int) -> None:
        ticket = self._arriving.pop(buffer)
        try:
            self._tier.wait(ticket)
        except ApportionError as error:
            self._stuck[buffer] = (ticket, error)
            raise

    def _arrange(self, number: int) -> None:
        """Rows that lie as files have them are interleaved, in their place."""
        for weight in self._weights[number].values():
            weight.interleave(self._threads)
        self._inside[number % len(self._slots)] = number

    def close(self) -> None:
        """Wait for reads. The memory goes with the last of the arrays in it: a model's weights are some; then
        `release` gives back what it was leased for.
        """
        for ticket in self._arriving.values():
            with suppress(ApportionError):  # nobody asks for it any more
                self._tier.wait(ticket)
        self._arriving.clear()
        self._weights.clear()
        self.release()

    def release(self) -> None:
        """Give the memory back, if no array is in it any more."""
        with suppress(BufferError):
            self._tier.close()


def _taken(tier: Slots) -> Slot:
    slot = tier.take()
    assert slot is not None
    return slot


def _as_read(member: Member, place: Bytes) -> Weight:
    rows = place[: member.nbytes].reshape(*member.shape[:-1], -1)
    return Weight(member.format, member.shape, rows, member.interleaved)


def _as_used(weight: Weight) -> Weight:
    """What `Weight.interleave` gives for it, without touching its bytes."""
    return Weight(weight.format, weight.shape, weight.data, weight.interleaved or weight.can_interleave)
