"""Where a loaded model's own counts are."""

from __future__ import annotations

from apportion.engine import LLM
from apportion.engine.store import KvStore, RemoteStore, TieredStore


def disk_store(llm: LLM) -> KvStore | None:
    """Its store on disk, if it has one."""
    store = llm.store
    if isinstance(store, TieredStore):
        return store.local
    return store if isinstance(store, KvStore) else None


def remote_store(llm: LLM) -> RemoteStore | None:
    """Its store on a server, if it has one."""
    store = llm.store
    if isinstance(store, TieredStore):
        return store.remote
    return store if isinstance(store, RemoteStore) else None


def weights_nbytes_read(llm: LLM) -> int:
    """Bytes of weights that were read from the disk while the model ran."""
    return 0 if llm.residency is None else llm.residency.reader.stats().nbytes_read


def nbytes_read(llm: LLM) -> int:
    """Bytes of weights, and of keys and values, that were read from the disk while the model ran."""
    store = disk_store(llm)
    return weights_nbytes_read(llm) + (0 if store is None else store.counters.nbytes_read)
