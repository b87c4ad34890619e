"""Reads of stored blocks beside the engine's steps: by threads, or by what a simulation has instead."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Protocol, TypeAlias

from apportion.formats.block import Bytes

ReadBlock: TypeAlias = Callable[[bytes, Bytes], bool]
"""Reads what is stored under a key into a block's memory; False where it cannot be had."""

READERS = 8  # reads at once: what a disk likes; they wait more than they compute
PATIENCE_S = 0.05  # between looks at requests that may have been cancelled meanwhile


class Reads(Protocol):
    """Reads that are under way."""

    def submit(self, key: bytes, memory: Bytes) -> Future[bool]:
        """Begin to read what is stored under `key` into `memory`; False where it cannot be had."""

    def wait(self, reads: Collection[Future[bool]]) -> None:
        """Return when all of them are over, or a moment later."""

    def close(self) -> None:
        """Nothing is read any more; returns when nothing writes to any memory."""


class ThreadedReads:
    """`Reads` by a few threads."""

    def __init__(self, read: ReadBlock) -> None:
        self._read = read
        self._threads = ThreadPoolExecutor(READERS, "read-kv")

    def submit(self, key: bytes, memory: Bytes) -> Future[bool]:
        return self._threads.submit(self._read, key, memory)

    def wait(self, reads: Collection[Future[bool]]) -> None:
        wait(reads, PATIENCE_S)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
