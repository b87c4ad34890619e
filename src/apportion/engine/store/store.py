"""The store on disk: KV blocks that outlive the memory's room, the process, and a power cut.

See docs/kv-store.md for what it promises and how it lies on disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from apportion.core.clock import Clock, RealClock
from apportion.core.direct_disk import DirectDisk
from apportion.core.disk import Disk
from apportion.core.errors import ApportionError
from apportion.core.fault_points import fault_point
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.store.config import StoreConfig
from apportion.engine.store.counters import StoreCounters
from apportion.engine.store.opening import Opened, open_folder
from apportion.engine.store.pending import Pending
from apportion.engine.store.reading import BlockReader
from apportion.engine.store.record import HEADER_NBYTES, MAX_TOKENS
from apportion.engine.store.shelf import Entry
from apportion.engine.store.staging import Bytes, Staging
from apportion.policies.retention import RETENTIONS, RetentionState

_SCANNERS = 8  # segments that are looked through at once on opening
_LOOK_AGAIN_S = 1.0  # a store that only reads looks for new segments that often


class KvStore:
    """Blocks by key. After opening nothing raises: what cannot be had is a miss, what cannot be kept is
    refused, and `counters` and `why_off` tell which and why. Safe to use from several threads.

    Args:
        folder: made where it is missing.
        read_only: use what another process writes; take no lock and put nothing.
        background: write in a thread of its own; otherwise in `put`, when the queue is full, and in `flush`.
        say: told once, in one sentence, when the store stops writing or reading.

    Raises:
        InUse: another process writes to the folder.
        DiskFault: the folder cannot be used.
    """

    def __init__(
        self,
        folder: str | Path,
        config: StoreConfig,
        *,
        disk: Disk | None = None,
        clock: Clock | None = None,
        retention: RetentionState | None = None,
        cost: BlockCost | None = None,
        read_only: bool = False,
        background: bool = True,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.config = config
        self.counters = StoreCounters()
        self._clock = clock or RealClock()
        self._say = say or (lambda text: None)
        self._changed = threading.Condition()
        retention = retention or RETENTIONS.get(RETENTIONS.baseline).state()
        self._opened: Opened = open_folder(
            disk or DirectDisk(),
            Path(folder),
            config,
            self._clock,
            retention,
            cost or BlockCost(),
            self.counters,
            self._changed,
            read_only,
            _SCANNERS if background else 1,
        )
        self._shelf = self._opened.shelf
        self._writer = self._opened.writer
        self._reader = BlockReader(
            self._shelf,
            self._opened.files,
            self._clock,
            self.counters,
            self._changed,
            config.stuck_after_s,
            self._bury,
        )
        self._staging = Staging(config.record_nbytes, config.num_slots)
        self._pending: dict[bytes, Pending] = {}
        self._queue: list[Pending | Entry] = []  # to be written; to be marked as dead
        self._is_writing = False
        self._is_closed = False
        self._looked_at = self._clock.now()
        self._has_said = False
        self._thread: threading.Thread | None = None
        if background and self._writer is not None:
            self._thread = threading.Thread(target=self._write_on, name="write-kv", daemon=True)
            self._thread.start()

    def __len__(self) -> int:
        return len(self._shelf)

    @property
    def used_nbytes(self) -> int:
        """What the store's files take on disk."""
        return self._opened.space.used_nbytes

    @property
    def why_off(self) -> str:
        """Why it neither writes nor reads as it should; empty as long as it does."""
        error = self._reader.why_off or (self._writer and self._writer.why_off)
        return str(error) if error else ""

    @property
    def takes_writes(self) -> bool:
        """Whether `put` has a chance."""
        return self._writer is not None and self._writer.why_off is None and not self._is_closed

    def look_up(self, keys: Sequence[bytes]) -> None:
        """What is on disk is known without asking."""

    def contains(self, key: bytes) -> bool:
        """Whether a read would find it, as far as is known; false while reads do not come back."""
        if self._is_closed or self._reader.is_blind:
            return False
        if key in self._pending or key in self._shelf:
            return True
        return self._look_again() and key in self._shelf

    def put(
        self,
        key: bytes,
        parent: bytes,
        num_before: int,
        ids: npt.NDArray[np.int32],
        payload: Bytes,
        timeout_s: float = 0.0,
    ) -> bool:
        """Take a copy of a block and write it in a while. False when it is not taken: the queue is full and
        stays so for `timeout_s`, the day's writes are used up, or the store is off.

        Args:
            key, parent: the block's and the one's before it (`prefix.keys`).
            num_before: tokens before the block's.
            ids: [num_tokens] the block's tokens.
            payload: [block_nbytes]
        """
        assert payload.nbytes == self.config.block_nbytes, payload.nbytes
        assert 0 < len(ids) <= MAX_TOKENS, len(ids)
        with self._changed:
            if not self._may_take():
                return False
            if key in self._pending or key in self._shelf:
                self.counters.duplicates += 1
                return True
            slot = self._take_slot(timeout_s)
            if slot is None:
                self.counters.refused_queue += 1
                return False
            place = self._staging.view(slot)
            place[HEADER_NBYTES : HEADER_NBYTES + payload.nbytes] = payload.reshape(-1).view(np.uint8)
            block = Pending(key, parent, num_before, np.array(ids, np.int32), slot)
            self._pending[key] = block
            self._queue.append(block)
            self._changed.notify_all()
        fault_point("put.queued")
        return True

    def read_into(self, key: bytes, buffer: Bytes) -> bool:
        """Fill `buffer` [block_nbytes] with a block's content, straight from the disk and verified. False for
        a miss of any kind; `buffer` then holds anything.
        """
        assert buffer.nbytes == self.config.block_nbytes, buffer.nbytes
        with self._changed:
            block, entry = self._pending.get(key), self._shelf.get(key)
            if block is not None:
                place = self._staging.view(block.slot)
                buffer.reshape(-1)[:] = place[HEADER_NBYTES : HEADER_NBYTES + buffer.nbytes]
                return self._count_read(buffer.nbytes)
        if entry is None and self._look_again():
            entry = self._shelf.get(key)
        if entry is None or self._is_closed or self._reader.is_blind:
            return self._count_read(0)
        found = self._reader.read(entry, buffer)
        self._say_once()
        return self._count_read(buffer.nbytes if found else 0)

    def remove(self, key: bytes) -> bool:
        """Forget a block, also for after a restart (once it is flushed). Whether it was there."""
        with self._changed:
            self._settle(self._pending.get(key))
            entry = self._shelf.get(key)
            if entry is None:
                return False
            self._bury(entry)
            return True

    def entries(self) -> list[Entry]:
        """What is known of all blocks that lie on disk."""
        with self._changed:
            return self._shelf.entries()

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Return when everything taken so far is safe or lost; False when that takes longer."""
        with self._changed:
            if self._thread is None:
                self._drain()
                return True
            return self._changed.wait_for(lambda: not self._queue and not self._is_writing, timeout_s)

    def close(self, timeout_s: float = 30.0) -> bool:
        """Flush, end the segment, and let others write. False when the disk did not let that happen in time;
        the process's end then does it.
        """
        if self._is_closed:
            return True
        in_time = self.flush(timeout_s)
        fault_point("close.flushed")
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s if in_time else 0.0)
            in_time = not self._thread.is_alive()
        if in_time:
            self._opened.close()
        return in_time

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- reading ---

    def _count_read(self, nbytes: int) -> bool:
        with self._changed:
            self.counters.hits += nbytes > 0
            self.counters.misses += nbytes == 0
            self.counters.nbytes_read += nbytes
        return nbytes > 0

    def _look_again(self) -> bool:
        """In a store that only reads, now and then: find what was written since. Whether it looked."""
        if self._writer is not None or self._clock.now() - self._looked_at < _LOOK_AGAIN_S:
            return False
        with self._changed:
            self._looked_at = self._clock.now()
            try:
                self._opened.look_again()
            except ApportionError as error:
                self.counters.read_faults += 1
                self._reader.why_off = error
        return self._reader.why_off is None

    # --- writing ---

    def _may_take(self) -> bool:
        if not self.takes_writes or self._writer is None:
            self.counters.refused_off += 1
            return False
        if self._writer.is_worn_out and not self._writer.has_recovered():
            self.counters.refused_wear += 1
            return False
        return True

    def _take_slot(self, timeout_s: float) -> int | None:
        if self._thread is None and not self._staging.num_free:
            self._drain()
        elif timeout_s > 0:
            deadline = time.monotonic() + timeout_s
            while not self._staging.num_free and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
        return self._staging.take()

    def _bury(self, entry: Entry) -> bool:
        """Forget a block now and have it marked on disk; False when it was forgotten already."""
        if not self._shelf.drop(entry):
            return False
        if self.takes_writes:
            self._queue.append(entry)
            self._changed.notify_all()
        return True

    def _settle(self, block: Pending | None) -> None:
        """Wait until a block of the queue is safe or lost."""
        if block is None:
            return
        if self._thread is None:
            self._drain()
        else:
            self._changed.wait_for(lambda: self._pending.get(block.key) is not block, 30.0)

    def _write_on(self) -> None:
        """The thread: whatever has come together while the last batch was written is the next one."""
        assert self._writer is not None
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._is_closed)
                if not self._queue:
                    return
                self._drain()

    def _drain(self) -> None:
        """Write the queue. The lock is held by the caller, and given up while the disk works."""
        if self._writer is None or not self._queue:
            return
        batch, self._queue = self._queue, []
        blocks = [item for item in batch if isinstance(item, Pending)]
        dead = [item for item in batch if isinstance(item, Entry)]
        self._is_writing = True
        self._changed.release()
        try:
            fault_point("batch.taken")
            self._writer.write([(block, self._staging.view(block.slot)) for block in blocks])
            self._writer.mark_dead(dead)
        finally:
            self._changed.acquire()
            self._is_writing = False
            self._forget(blocks)
            self._changed.notify_all()
        self._say_once()

    def _forget(self, blocks: Sequence[Pending]) -> None:
        for block in blocks:
            self.counters.lost += not block.is_safe
            del self._pending[block.key]
            self._staging.release(block.slot)

    def _say_once(self) -> None:
        if self.why_off and not self._has_said:
            self._has_said = True
            what = "is read no more" if self._reader.why_off else "takes nothing more"
            self._say(f"the store on disk {what}: {self.why_off}")
