"""The store on disk: KV blocks beyond memory's room and the process's life. See docs/kv-store.md."""

from apportion.engine.store.config import StoreConfig
from apportion.engine.store.counters import StoreCounters
from apportion.engine.store.remote import RemoteConfig, RemoteStore
from apportion.engine.store.store import KvStore
from apportion.engine.store.tiers import TieredStore

__all__ = ["KvStore", "RemoteConfig", "RemoteStore", "StoreConfig", "StoreCounters", "TieredStore"]
