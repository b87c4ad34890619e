"""The memory that packing takes: leased before anything is written, or refused with what would do."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from apportion.compress.sections import Matrix
from apportion.core.claim import Claim, Kind, Tier
from apportion.core.errors import DoesNotFit
from apportion.core.resident import peak_rss_bytes
from apportion.core.units import MiB, format_bytes
from apportion.formats.block import Bytes
from apportion.formats.panels import PANEL_ROWS
from apportion.memory import Arena, Ledger

IDEAL_NBYTES = 16 * MiB  # larger pieces gain nothing
MARGIN_NBYTES = 16 * MiB  # what the interpreter, NumPy and the system's libraries take on the way
PADDING_NBYTES = 4096  # behind a piece


class Buffers:
    """Two buffers for pieces as they are kept, in turn, and where something is recoded one for pieces as they
    are stored.

    Args:
        matrices: all that are to be made.
        ram: the budget of the whole process in bytes; None for as much as is useful.

    Raises:
        DoesNotFit: the budget is too small; it names the smallest.
    """

    def __init__(self, matrices: Sequence[Matrix], ram: int | None) -> None:
        count = 2 + any(matrix.recodes for matrix in matrices)
        least = max((_least(matrix) for matrix in matrices), default=0) + PADDING_NBYTES
        most = sum(sorted((_whole(matrix) for matrix in matrices), reverse=True)[:3]) + PADDING_NBYTES
        scratch = max((_scratch(matrix) for matrix in matrices), default=0)
        fixed = peak_rss_bytes() + MARGIN_NBYTES
        wanted = max(least, min(most, IDEAL_NBYTES))
        if ram is not None:
            room = (ram - fixed - scratch) // count
            if room < least:
                raise _too_small(ram, fixed + scratch + count * least)
            wanted = min(wanted, room // PADDING_NBYTES * PADDING_NBYTES)
        self._ledger = Ledger({Tier.RAM: fixed + scratch + count * wanted + PADDING_NBYTES * count})
        self._lease = self._ledger.reserve(Claim(Kind.RUNTIME, fixed), Claim(Kind.WORKSPACE, scratch))
        self._arena = Arena(self._ledger, Kind.IO_BUFFERS, wanted, count)
        slots = [self._arena.take() for _ in range(count)]
        self._views = [self._arena.view(slot) for slot in slots if slot is not None]
        self._next = 0

    @property
    def piece_nbytes(self) -> int:
        """The largest piece, as stored or as kept, that may be made at once."""
        return self._arena.slot_nbytes - PADDING_NBYTES

    def kept(self) -> Bytes:
        """The buffer whose last piece was made before the last one."""
        self._next = 1 - self._next
        return self._views[self._next]

    @property
    def stored(self) -> Bytes:
        """The buffer for pieces before they are recoded."""
        return self._views[2]

    def close(self) -> None:
        self._views.clear()
        with suppress(BufferError):  # an error on its way up still holds arrays: the memory goes with them
            self._arena.close()
        self._lease.release()


def _least(matrix: Matrix) -> int:
    return matrix.grain * max(matrix.entry_nbytes, matrix.stored_entry_nbytes)


def _whole(matrix: Matrix) -> int:
    return matrix.shape[0] * max(matrix.entry_nbytes, matrix.stored_entry_nbytes)


def _scratch(matrix: Matrix) -> int:
    return matrix.scratch_nbytes + PANEL_ROWS * matrix.load.kept.row_nbytes(matrix.shape[-1])


def _too_small(ram: int, smallest: int) -> DoesNotFit:
    whole = -(-smallest // MiB)
    return DoesNotFit(
        f"packing does not fit into {format_bytes(ram)}",
        "it needs room for the largest pieces of the model, beside the program itself",
        f"--ram {whole}MiB is the smallest that would do",
        need=whole * MiB,
        have=ram,
    )
