"""Where keys and values go beyond memory: to the disk, to a server that machines share, or to both."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypeAlias

from apportion.core.errors import InUse
from apportion.core.settings import KV_DIR, get
from apportion.engine.prefix.cost import BlockCost
from apportion.engine.store import KvStore, RemoteConfig, RemoteStore, StoreConfig, TieredStore
from apportion.policies.retention import RETENTIONS

AnyStore: TypeAlias = KvStore | RemoteStore | TieredStore
LOG = logging.getLogger("apportion")


def open_stores(
    identity: bytes,
    block_nbytes: int,
    *,
    disk_nbytes: int = 0,
    folder: str | Path | None = None,
    remote: str | None = None,
    retention: str = RETENTIONS.baseline,
    cost: BlockCost | None = None,
) -> AnyStore | None:
    """The stores that were asked for; None for none.

    Args:
        identity: of model, tokenizer and layout (`prefix.keys.fingerprint`).
        disk_nbytes: room on disk; 0 for none. It lies in `folder`, or where the setting says.
        remote: address of a server; None for none.
        cost: of what is stored, by which the retention judges.

    Raises:
        UsageError: the store on disk is too small for a few blocks, or the address is none.
        DiskFault: the folder cannot be used.
    """
    local = None
    if disk_nbytes:
        local = open_disk(identity, block_nbytes, disk_nbytes, folder, retention, cost)
    if remote is None:
        return local
    try:
        shared = RemoteStore(RemoteConfig(remote, identity, block_nbytes))
    except BaseException:
        if local is not None:
            local.close()
        raise
    return shared if local is None else TieredStore(local, shared)


def disk_store(store: AnyStore | None) -> KvStore | None:
    """The one on disk; None where there is none."""
    local = store.local if isinstance(store, TieredStore) else store
    return local if isinstance(local, KvStore) else None


def open_disk(
    identity: bytes,
    block_nbytes: int,
    disk_nbytes: int,
    folder: str | Path | None,
    retention: str,
    cost: BlockCost | None = None,
) -> KvStore:
    """The store on disk, in a folder of its own for this model, so that two models do not push each other
    out. Where another process writes to it, what it holds is read.
    """
    own = (get(KV_DIR) if folder is None else Path(folder)) / identity.hex()
    config = StoreConfig(disk_nbytes, identity, block_nbytes)
    state = RETENTIONS.choose(retention).state()
    try:
        return KvStore(own, config, retention=state, cost=cost, say=LOG.warning)
    except InUse as error:
        LOG.warning("%s; what it stores is read, and nothing is added", error.what)
        return KvStore(own, config, retention=state, cost=cost, read_only=True, say=LOG.warning)
