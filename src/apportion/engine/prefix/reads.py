"""Reads of stored blocks beside the engine's steps: by threads, or by what a simulation has instead."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, wait
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Protocol, TypeAlias

from apportion.formats.block import Bytes

ReadBlock: TypeAlias = Callable[[bytes, Bytes], bool]
"""Reads what is stored under a key into a block's memory; False where it cannot be had."""
Ask: TypeAlias = tuple["Future[bool]", bytes, Bytes]

READERS = 8  # reads at once: what a disk likes; they wait more than they compute
PATIENCE_S = 0.05  # between looks at requests that may have been cancelled meanwhile
CLOSE_S = 5.0  # for reads that are under way; a disk that is dead does not give them back


class Reads(Protocol):
    """Reads that are under way."""

    def submit(self, key: bytes, memory: Bytes) -> Future[bool]:
        """Begin to read what is stored under `key` into `memory`; False where it cannot be had."""

    def wait(self, reads: Collection[Future[bool]]) -> None:
        """Return when all of them are over, or a moment later."""

    def close(self) -> None:
        """Nothing is read any more. Returns when nothing writes to any memory, or when that takes too long;
        memory that something writes to then stays as long as it does.
        """


class ThreadedReads:
    """`Reads` by a few threads, begun as they are needed. They hold up neither `close` for long nor the end
    of the process: a read may never come back.
    """

    def __init__(self, read: ReadBlock, close_s: float = CLOSE_S) -> None:
        self._read = read
        self._close_s = close_s
        self._asked: SimpleQueue[Ask | None] = SimpleQueue()
        self._threads: list[Thread] = []

    def submit(self, key: bytes, memory: Bytes) -> Future[bool]:
        future: Future[bool] = Future()
        self._asked.put((future, key, memory))
        if len(self._threads) < READERS:
            self._threads.append(Thread(target=self._work, name="read-kv", daemon=True))
            self._threads[-1].start()
        return future

    def wait(self, reads: Collection[Future[bool]]) -> None:
        wait(reads, PATIENCE_S)

    def close(self) -> None:
        with suppress(Empty):
            while asked := self._asked.get_nowait():
                asked[0].cancel()
        for _ in self._threads:
            self._asked.put(None)
        deadline = time.monotonic() + self._close_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while asked := self._asked.get():
            answer(*asked, self._read)
            del asked  # it refers to memory


def answer(future: Future[bool], key: bytes, memory: Bytes, read: ReadBlock) -> None:
    """Read, unless nobody asks for it any more."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(read(key, memory))
    except BaseException as error:
        future.set_exception(error)
