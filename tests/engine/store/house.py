"""Blocks whose content follows from their key, so that a wrong one shows at once, and stores of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from apportion.core.clock import Clock, VirtualClock
from apportion.core.disk import Disk
from apportion.engine.prefix.keys import chain_keys, fingerprint, root_key
from apportion.engine.store import KvStore, StoreConfig
from apportion.engine.store.folder import SMALL_FILES_NBYTES
from apportion.engine.store.record import record_nbytes

FINGERPRINT = fingerprint("model", "tokenizer", "f16")
ROOT = root_key(FINGERPRINT)
FOLDER = Path("/store")
TOKENS = 4
BLOCK_NBYTES = 5000
RECORD_NBYTES = record_nbytes(BLOCK_NBYTES)


@dataclass(frozen=True)
class Block:
    key: bytes
    parent: bytes
    num_before: int
    ids: npt.NDArray[np.int32]

    @property
    def payload(self) -> npt.NDArray[np.uint8]:
        return payload_of(self.key)


def payload_of(key: bytes, nbytes: int = BLOCK_NBYTES) -> npt.NDArray[np.uint8]:
    return np.frombuffer((key * (nbytes // len(key) + 1))[:nbytes], np.uint8)


def chain(seed: int, num_blocks: int, root: bytes = ROOT) -> list[Block]:
    """Blocks that follow each other, another chain for every seed."""
    ids = np.random.default_rng(seed).integers(0, 50_000, TOKENS * num_blocks, dtype=np.int32)
    keys = chain_keys(ids, root, TOKENS)
    rows = ids.reshape(num_blocks, TOKENS)
    parents = [root, *keys[:-1]]
    return [Block(keys[i], parents[i], TOKENS * i, rows[i]) for i in range(num_blocks)]


def config(num_records: int = 64, **changes: Any) -> StoreConfig:
    """Room for so many records."""
    limit = num_records * RECORD_NBYTES + SMALL_FILES_NBYTES
    settings = {"fingerprint": FINGERPRINT, "block_nbytes": BLOCK_NBYTES, "queue_nbytes": 4 * RECORD_NBYTES}
    return StoreConfig(limit, **(settings | changes))


def store(
    disk: Disk | None,
    config: StoreConfig,
    clock: Clock | None = None,
    folder: Path = FOLDER,
    *,
    background: bool = False,
    read_only: bool = False,
    say: Callable[[str], None] | None = None,
) -> KvStore:
    """A store that writes in the thread that puts, unless told otherwise."""
    return KvStore(
        folder,
        config,
        disk=disk,
        clock=clock or VirtualClock(),
        background=background,
        read_only=read_only,
        say=say,
    )


def put(store: KvStore, block: Block, timeout_s: float = 0.0) -> bool:
    return store.put(block.key, block.parent, block.num_before, block.ids, block.payload, timeout_s)


def get(store: KvStore, block: Block) -> bool:
    """Whether it is there; fails when what comes is not the block's content."""
    buffer = np.full(BLOCK_NBYTES, 0xEE, np.uint8)
    if not store.read_into(block.key, buffer):
        return False
    assert np.array_equal(buffer, block.payload), "wrong KV"
    return True


def fill(disk: Disk | None, blocks: list[Block], config: StoreConfig, folder: Path = FOLDER) -> None:
    """Put them, in a store that is then closed."""
    with store(disk, config, folder=folder) as kept:
        for block in blocks:
            assert put(kept, block)


def num_found(disk: Disk | None, blocks: list[Block], config: StoreConfig, folder: Path = FOLDER) -> int:
    """How many of them a store that is opened now has."""
    with store(disk, config, folder=folder) as kept:
        return sum(get(kept, block) for block in blocks)
