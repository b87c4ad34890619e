"""The embedding row by row, where it does not stay in memory."""

from __future__ import annotations

import time

import numpy as np

from apportion import _native
from apportion.core.claim import Kind
from apportion.engine.residency.counters import Counters
from apportion.formats.block import Floats
from apportion.kernels.ops import Ints
from apportion.memory import MakeSlots, Part, room_for
from apportion.models.units import Unit

BUFFER_NBYTES = 1 << 20


class EmbeddingRows:
    """Reads the rows that tokens name.

    Args:
        unit: the embedding, its rows as files have them.
        file: the tier's number of its file.
        scale: factor on the rows.
        make_slots: makes the buffer.
    """

    def __init__(
        self, unit: Unit, file: int, scale: float, make_slots: MakeSlots, counters: Counters
    ) -> None:
        (table,) = unit.members
        self._counters = counters
        assert not table.interleaved
        self._format = table.format
        self._width = table.shape[1]
        self._row_nbytes = table.format.row_nbytes(self._width)
        self._file = file
        self._offset = unit.stretches[table.stretch].offset + table.start
        self._scale = np.float32(scale)
        room = max(BUFFER_NBYTES, room_for(4095, self._row_nbytes))
        self._tier = make_slots(Kind.IO_BUFFERS, room, 1)
        slot = self._tier.take()
        assert slot is not None
        self._slot = slot

    def read(self, ids: Ints) -> Floats:
        """Tokens [T] -> hidden states [T, H]."""
        rows, places = np.unique(ids, return_inverse=True)
        hidden = np.empty((len(ids), self._width), np.float32)
        done = 0
        while done < len(rows):
            decoded = self._read_some(rows[done:])
            here = (places >= done) & (places < done + len(decoded))
            hidden[here] = decoded[places[here] - done]
            done += len(decoded)
        return hidden

    def _read_some(self, rows: Ints) -> Floats:
        """As many of the rows as the buffer has room for."""
        parts: list[Part] = []
        place = 0
        for row in rows.tolist():
            part = Part(self._file, self._offset + row * self._row_nbytes, self._row_nbytes, place)
            if place + part.room > self._tier.slot_nbytes:
                break
            parts.append(part)
            place += part.room
        began = time.perf_counter()
        self._tier.wait(self._tier.fetch(self._slot, parts))
        self._counters.row_stall_s += time.perf_counter() - began
        view = self._tier.view(self._slot)
        stored = np.stack([view[part.first : part.first + self._row_nbytes] for part in parts])
        decoded = np.empty((len(parts), self._width), np.float32)
        _native.dequantize(self._format.ggml_type, stored, decoded)
        decoded *= self._scale
        return decoded

    def close(self) -> None:
        self._tier.close()
