"""Reads by threads: all are answered, and none that is stuck holds up who wants to go."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from apportion.core.errors import DiskFault
from apportion.engine.prefix.reads import READERS, ThreadedReads


def memory() -> np.ndarray:
    return np.zeros(4, np.uint8)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def test_every_read_is_answered_with_what_came_of_it() -> None:
    def read(key: bytes, buffer: np.ndarray) -> bool:
        buffer[:] = key[0]
        if key == b"bad":
            raise DiskFault("a read failed")
        return key != b"none"

    reads, buffers = ThreadedReads(read), [memory() for _ in range(100)]
    futures = [reads.submit(bytes([number]), buffer) for number, buffer in enumerate(buffers)]
    bad, none = reads.submit(b"bad", memory()), reads.submit(b"none", memory())
    assert all(future.result(10) for future in futures)
    assert [int(buffer[0]) for buffer in buffers] == list(range(100))
    assert isinstance(bad.exception(10), DiskFault)
    assert none.result(10) is False
    assert len(reads._threads) == READERS
    reads.close()
    reads.close()
    assert not any(thread.is_alive() for thread in reads._threads)


def test_what_waits_is_cancelled_and_what_is_stuck_is_left_behind(gate: threading.Event) -> None:
    reads = ThreadedReads(lambda key, buffer: gate.wait(), close_s=0.1)
    futures = [reads.submit(b"", memory()) for _ in range(READERS + 3)]
    while not all(future.running() for future in futures[:READERS]):
        time.sleep(0.001)
    began = time.monotonic()
    reads.close()
    assert time.monotonic() - began < 2
    assert [future.cancelled() for future in futures] == [False] * READERS + [True] * 3
    gate.set()
    assert all(future.result(10) for future in futures[:READERS]), "they end when the disk lets them"


def test_closing_waits_for_reads_that_come_back(gate: threading.Event) -> None:
    reads = ThreadedReads(lambda key, buffer: gate.wait())
    future = reads.submit(b"", memory())
    threading.Timer(0.1, gate.set).start()
    reads.close()
    assert future.done()


def test_a_stuck_read_does_not_keep_the_process_from_ending() -> None:
    work = (
        "import threading, numpy; from apportion.engine.prefix.reads import ThreadedReads\n"
        "reads = ThreadedReads(lambda key, buffer: threading.Event().wait(), close_s=0.1)\n"
        "reads.submit(b'', numpy.zeros(1)); reads.close()"
    )
    subprocess.run([sys.executable, "-c", work], timeout=30, check=True)
