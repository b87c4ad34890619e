"""The store on disk before the one that machines share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from apportion.engine.store.remote import RemoteStore
from apportion.engine.store.staging import Bytes
from apportion.engine.store.store import KvStore


class TieredStore:
    """Puts into both, reads from the first that has it, and keeps on disk what the other one brought."""

    def __init__(self, local: KvStore, remote: RemoteStore) -> None:
        self.local = local
        self.remote = remote

    def look_up(self, keys: Sequence[bytes]) -> None:
        """Ask the remote store, at once, for those that the disk has not."""
        self.remote.look_up([key for key in keys if not self.local.contains(key)])

    def contains(self, key: bytes) -> bool:
        """Whether a read would find it, as far as is known."""
        return self.local.contains(key) or self.remote.contains(key)

    def put(
        self,
        key: bytes,
        parent: bytes,
        num_before: int,
        ids: npt.NDArray[np.int32],
        payload: Bytes,
        timeout_s: float = 0.0,
    ) -> bool:
        """Whether at least one of them takes it; `KvStore.put` has the arguments."""
        shared = self.remote.put(key, parent, num_before, ids, payload)
        return self.local.put(key, parent, num_before, ids, payload, timeout_s) or shared

    def read_into(self, key: bytes, buffer: Bytes) -> bool:
        """Fill `buffer` [block_nbytes]; False for a miss of any kind."""
        if self.local.contains(key) and self.local.read_into(key, buffer):
            return True
        found = self.remote.fetch(key)
        if found is None:
            return False
        record, payload = found
        buffer.reshape(-1)[:] = payload
        self.local.put(key, record.parent, record.num_before, record.ids, payload)
        return True

    def flush(self, timeout_s: float = 30.0) -> bool:
        """Whether everything taken so far is settled in both in time."""
        return self.remote.flush(timeout_s) and self.local.flush(timeout_s)

    def close(self, timeout_s: float = 30.0) -> bool:
        """Close both; False when one could not settle everything in time."""
        shared = self.remote.close(timeout_s)
        return self.local.close(timeout_s) and shared
