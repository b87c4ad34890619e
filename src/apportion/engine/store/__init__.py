"""The store on disk: KV blocks beyond memory's room and the process's life. See docs/kv-store.md."""

from apportion.engine.store.config import StoreConfig
from apportion.engine.store.counters import StoreCounters
from apportion.engine.store.store import KvStore

__all__ = ["KvStore", "StoreConfig", "StoreCounters"]
