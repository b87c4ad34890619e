"""What a process does with a store until it is killed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

from tests.engine.store.house import chain, config, get, put, store

from apportion.core.clock import RealClock
from apportion.core.fault_points import arm
from apportion.engine.store import KvStore

NUM_BLOCKS = 14
LIMITS = config(24, writes_per_day_nbytes=10**9)


def work(folder: str, log: str, seed: int, num_rounds: int, point: str) -> None:
    """Fill a store with one chain after the other, and die at `point`.

    It writes to the file `log`: `safe SEED NUM` when that many blocks of chain SEED are safe, `removed SEED`
    when block 2 of it is not to be found any more, `done` at the end.
    """
    arm(point)
    with open(log, "w", buffering=1) as said:
        for i in range(seed, seed + num_rounds):
            fill(Path(folder), i, said.write)
        said.write("done\n")


def hold(folder: str, log: str) -> None:
    """Write one chain after the other into one store, which stays open; `log` is as of `work`."""
    with (
        open(log, "w", buffering=1) as said,
        store(None, LIMITS, RealClock(), Path(folder), background=True) as kept,
    ):
        for seed in count(1):
            write(kept, seed, said.write)


def fill(folder: Path, seed: int, say: Callable[[str], object]) -> None:
    """One process's life, as far as the store can tell."""
    with store(None, LIMITS, RealClock(), folder, background=True) as kept:
        write(kept, seed, say)


def write(kept: KvStore, seed: int, say: Callable[[str], object]) -> None:
    """One chain, piece by piece, with some of it read again; its third block is removed."""
    blocks = chain(seed, NUM_BLOCKS)
    for first in range(0, NUM_BLOCKS, 3):
        for block in blocks[first : first + 3]:
            put(kept, block, timeout_s=10.0)
        kept.flush()
        say(f"safe {seed} {min(first + 3, NUM_BLOCKS)}\n")
        get(kept, blocks[0])
        get(kept, blocks[first])
    kept.remove(blocks[2].key)
    kept.flush()
    say(f"removed {seed}\n")
