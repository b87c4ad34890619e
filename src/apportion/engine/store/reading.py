"""Reading blocks back: straight into the caller's memory, verified, by several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from apportion.core.clock import Clock
from apportion.core.disk import read_exactly
from apportion.core.errors import ApportionError, NotFound, Truncated
from apportion.engine.store.counters import StoreCounters
from apportion.engine.store.open_files import OpenFiles
from apportion.engine.store.record import checksum
from apportion.engine.store.shelf import Entry, Shelf
from apportion.engine.store.staging import Bytes

_MOST_FAULTS = 16  # in a row; then the store is read no more


class BlockReader:
    """Reads what is on the shelf; `lock` guards that and the counters.

    Args:
        stuck_after_s: a read that has not come back for so long ends all others until it has.
        bury: told what is damaged, with the lock held; False when it was forgotten already.

    Attributes:
        why_off: why nothing is read any more; None as long as something is.
    """

    def __init__(
        self,
        shelf: Shelf,
        files: OpenFiles,
        clock: Clock,
        counters: StoreCounters,
        lock: threading.Condition,
        stuck_after_s: float,
        bury: Callable[[Entry], bool],
    ) -> None:
        self._shelf = shelf
        self._files = files
        self._clock = clock
        self._counters = counters
        self._lock = lock
        self._stuck_after_s = stuck_after_s
        self._bury = bury
        self._faults = 0
        self._since: dict[int, float] = {}  # when each thread that reads now began to
        self.why_off: ApportionError | None = None

    @property
    def is_blind(self) -> bool:
        """Whether reading is out of the question now: the disk fails, or does not come back."""
        if self.why_off is not None:
            return True
        since = min(list(self._since.values()), default=None)
        return since is not None and self._clock.now() - since > self._stuck_after_s

    def read(self, entry: Entry, buffer: Bytes) -> bool:
        """Fill `buffer` [block_nbytes]; False, and anything in it, where that fails."""
        thread = threading.get_ident()
        self._since[thread] = self._clock.now()
        try:
            with self._files.borrow(entry.segment) as file:
                read_exactly(file, buffer.reshape(-1).data, entry.payload_offset)
        except (NotFound, Truncated) as error:
            self._miss(entry, error)
            return False
        except ApportionError as error:
            self._fail(error)
            return False
        finally:
            del self._since[thread]
        self._faults = 0
        is_whole = checksum(buffer.reshape(-1).data) == entry.payload_sum
        with self._lock:
            if not is_whole:
                self._counters.corrupt += self._bury(entry)
                return False
            entry.num_uses += 1
            entry.last_use_s = self._clock.now()
            return True

    def _miss(self, entry: Entry, error: ApportionError) -> None:
        """Its segment is shorter than it was, or gone, because its room was needed or not."""
        with self._lock:
            if isinstance(error, Truncated):
                self._counters.corrupt += self._shelf.drop(entry)
            elif self._shelf.get(entry.key) is entry:
                self._counters.dropped += self._shelf.drop_all(self._shelf.in_segment(entry.segment))

    def _fail(self, error: ApportionError) -> None:
        with self._lock:
            self._counters.read_faults += 1
            self._faults += 1
            if self._faults >= _MOST_FAULTS and self.why_off is None:
                self.why_off = error
