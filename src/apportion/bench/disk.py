"""How fast a disk is read: by block size and depth, alone and beside computing, at places not read before.

A host may cache below the machine that we see, so no place of the file is read twice in one run as long as
there are others, and another run takes other places. Rates drift: every way of reading has its turn in each
of several rounds.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from apportion.bench.limits import Bandwidth, Rates
from apportion.core.claim import Kind
from apportion.core.errors import BadFile
from apportion.core.units import KiB, MiB, format_bytes
from apportion.hardware.profile import DiskProfile, DiskRate, Range
from apportion.hardware.storage import file_system
from apportion.memory import Arena, Ledger, Part, Reader, Slot, Ticket

MIN_FILE_NBYTES = 16 * MiB
ROUNDS = 3
TURN_S = 0.12  # of one way of reading in one round
GROUP = 16  # large places whose blocks are mixed with each other


@dataclass(frozen=True, slots=True)
class Way:
    """A way of reading."""

    block_nbytes: int
    depth: int
    beside: bool = False


ALONE = tuple(Way(block, depth) for block in (4 * KiB, 64 * KiB, MiB, 4 * MiB) for depth in (1, 4, 8))
BESIDE = tuple(Way(block, depth, beside=True) for block in (MiB, 4 * MiB) for depth in (4, 8))


class Places:
    """Places of a file in an order by chance, none twice before all have been. Blocks of all sizes come out
    of one row of large places, so that they do not meet.
    """

    def __init__(self, file_nbytes: int, largest: int, seed: int) -> None:
        self._random = random.Random(seed)
        starts = list(range(0, file_nbytes - largest + 1, largest))
        self._random.shuffle(starts)
        self._largest = largest
        self._groups = itertools.cycle([starts[at : at + GROUP] for at in range(0, len(starts), GROUP)])

    def blocks(self, nbytes: int) -> Iterator[int]:
        """Offsets for blocks of this size, without end. Small ones lie apart in their place: what is fetched
        with one is not another.
        """
        step = max(nbytes, 64 * KiB)
        while True:
            group = next(self._groups)
            offsets = [start + at for start in group for at in range(0, self._largest - nbytes + 1, step)]
            self._random.shuffle(offsets)
            yield from offsets


def measure_disk(path: Path, ledger: Ledger, threads: int, *, seed: int | None = None) -> DiskProfile:
    """Read a file in all ways.

    Args:
        path: a file of some size, on the device that is meant.
        ledger: pays for the buffers.
        threads: that compute, for the rates beside computing.
        seed: chooses the places; by default the time does.

    Raises:
        BadFile: the file is too small to tell anything.
        DoesNotFit: the ledger has no room for the buffers.
        DiskFault: reading failed.
    """
    with ExitStack() as stack:
        depth = max(way.depth for way in (*ALONE, *BESIDE))
        largest = max(way.block_nbytes for way in (*ALONE, *BESIDE))
        reader = stack.enter_context(Reader(depth=depth, num_threads=depth))
        arena = stack.enter_context(Arena(ledger, Kind.IO_BUFFERS, largest, depth))
        file = reader.open(path)
        opened = reader.file(file)
        if opened.nbytes < MIN_FILE_NBYTES:
            raise _too_small(path, opened.nbytes)
        places = Places(opened.nbytes, largest, time.time_ns() if seed is None else seed)
        rates = _rounds(lambda way: _turn(reader, arena, file, way, places), threads)
        return DiskProfile(
            file_system(path),
            reader.backend,
            reader.file(file).direct,
            opened.nbytes,
            tuple(DiskRate(way.block_nbytes, way.depth, way.beside, _range(rates[way])) for way in rates),
            reader.notes,
        )


def _rounds(turn: Callable[[Way], float], threads: int) -> dict[Way, list[float]]:
    """GB/s of each way, one figure a round."""
    rates: dict[Way, list[float]] = {way: [] for way in (*ALONE, *BESIDE)}
    for _ in range(ROUNDS):
        for way in ALONE:
            rates[way].append(turn(way))
        with computing(threads):
            for way in BESIDE:
                rates[way].append(turn(way))
    return rates


def _turn(reader: Reader, arena: Arena, file: int, way: Way, places: Places) -> float:
    """GB/s of one way over `TURN_S`."""
    offsets = places.blocks(way.block_nbytes)
    flying: deque[tuple[Ticket, Slot]] = deque()
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < TURN_S or not done:
        while len(flying) < way.depth:
            slot = arena.take()
            assert slot is not None
            flying.append((reader.submit(arena, slot, [Part(file, next(offsets), way.block_nbytes)]), slot))
        done += _land(reader, arena, flying, way)
    while flying:
        done += _land(reader, arena, flying, way)
    return done / (time.perf_counter() - began) / 1e9


def _land(reader: Reader, arena: Arena, flying: deque[tuple[Ticket, Slot]], way: Way) -> int:
    ticket, slot = flying.popleft()
    reader.wait(ticket)
    arena.release(slot)
    return way.block_nbytes


@contextmanager
def computing(threads: int) -> Iterator[None]:
    """Inside the block so many threads read memory as fast as they can."""
    bandwidth, over = Bandwidth(threads), threading.Event()

    def compute() -> None:
        while not over.is_set():
            bandwidth.measure(threads)

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def largest_file(folder: Path) -> Path | None:
    """The largest file in a folder and those in it; None where there is none."""
    sizes = []
    for path in folder.rglob("*"):
        try:
            if path.is_file():
                sizes.append((path.stat().st_size, path))
        except OSError:
            continue  # gone meanwhile, or not for us
    return max(sizes, default=(0, None))[1]


def _range(rates: Sequence[float]) -> Range:
    found = Rates.of(rates)
    return Range(found.median, found.min, found.max)


def _too_small(path: Path, nbytes: int) -> BadFile:
    return BadFile(
        f"{path} is too small to measure a disk with",
        f"it has {format_bytes(nbytes)}",
        f"name a file of at least {format_bytes(MIN_FILE_NBYTES)}, best a model",
    )
