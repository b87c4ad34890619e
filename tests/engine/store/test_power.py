"""Power cuts: after every call of the disk, whatever it left, the store opens and lies about nothing.

Set APPORTION_LONG_TESTS to a number to have so many more remainders of each.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from tests.engine.store.house import FOLDER, Block, chain, config, get, put, store

from apportion.core.disk import Buffer, DiskFile, DiskLock, OpenMode
from apportion.core.virtual_disk import VirtualDisk, VirtualFile
from apportion.engine.store import KvStore

T = TypeVar("T")
MORE = int(os.environ.get("APPORTION_LONG_TESTS", "0"))
ROOMY, TIGHT = config(64), config(12)
BLOCKS, LATER = chain(1, 14), chain(2, 4)


class PowerCut(BaseException):
    """Nothing of ours can catch this."""


class Mains:
    """Power for so many changes of a disk; the last one may still come through in part."""

    def __init__(self, num_changes: int | None) -> None:
        self.left = num_changes
        self.num_changes = 0

    def change(self, act: Callable[[], T]) -> T:
        if self.left is not None and self.num_changes >= self.left:
            raise PowerCut
        self.num_changes += 1
        return act()


class CutFile:
    def __init__(self, inner: VirtualFile, mains: Mains) -> None:
        self._inner = inner
        self._mains = mains

    def pwrite(self, data: Buffer, offset: int) -> int:
        return self._mains.change(lambda: self._inner.pwrite(data, offset))

    def fdatasync(self) -> None:
        self._mains.change(self._inner.fdatasync)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def __enter__(self) -> CutFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._inner.close()


class CutDisk:
    """`disk`, until the power goes."""

    def __init__(self, disk: VirtualDisk, mains: Mains) -> None:
        self._disk = disk
        self._mains = mains

    def open(self, path: str | Path, mode: OpenMode = "read") -> DiskFile:
        file = self._mains.change(lambda: self._disk.open(path, mode)) if mode == "create" else None
        return CutFile(file or self._disk.open(path, mode), self._mains)  # type: ignore[return-value]

    def rename(self, source: str | Path, target: str | Path) -> None:
        self._mains.change(lambda: self._disk.rename(source, target))

    def remove(self, path: str | Path) -> None:
        self._mains.change(lambda: self._disk.remove(path))

    def sync_folder(self, path: str | Path) -> None:
        self._mains.change(lambda: self._disk.sync_folder(path))

    def size(self, path: str | Path) -> int:
        return self._disk.size(path)

    def listdir(self, path: str | Path) -> list[str]:
        return self._disk.listdir(path)

    def make_folder(self, path: str | Path) -> None:
        self._disk.make_folder(path)

    def lock(self, path: str | Path) -> DiskLock | None:
        return self._disk.lock(path)


class Work:
    """Puts, flushes, reads, a removal and a restart; what it was told is safe, and what went on purpose."""

    def __init__(self, disk: CutDisk, tight: bool) -> None:
        self._disk = disk
        self._config = TIGHT if tight else ROOMY
        self._day = 100 * self._config.limit_nbytes if tight else None
        self.safe: list[Block] = []
        self.removed: list[Block] = []

    def open(self) -> KvStore:
        changes = {"writes_per_day_nbytes": self._day}
        return store(self._disk, config(12 if self._config is TIGHT else 64, **changes))

    def run(self) -> None:
        kept = self.open()
        self._put(kept, BLOCKS[:3])
        self._put(kept, BLOCKS[3:10])
        get(kept, BLOCKS[0])
        get(kept, BLOCKS[1])
        self._remove(kept, BLOCKS[2])
        kept.close()
        kept = self.open()
        self._put(kept, BLOCKS[10:])
        self._put(kept, LATER)
        kept.close()

    def _put(self, kept: KvStore, blocks: list[Block]) -> None:
        for block in blocks:
            assert put(kept, block)
        kept.flush()
        self.safe += blocks

    def _remove(self, kept: KvStore, block: Block) -> None:
        self.removed.append(block)
        if kept.remove(block.key):
            kept.flush()


def num_changes(tight: bool) -> int:
    mains = Mains(None)
    Work(CutDisk(VirtualDisk(), mains), tight).run()
    return mains.num_changes


def after_a_cut(tight: bool, cut: int, rng: random.Random | None) -> None:
    disk = VirtualDisk()
    work = Work(CutDisk(disk, Mains(cut)), tight)
    with pytest.raises(PowerCut):
        work.run()
    disk.crash(rng)
    assert sum(disk.size(FOLDER / name) for name in disk.listdir(FOLDER)) <= work._config.limit_nbytes
    with store(disk, work._config) as kept:
        found = {block.key for block in BLOCKS + LATER if get(kept, block)}
        if not tight:
            assert {block.key for block in work.safe} - {block.key for block in work.removed} <= found
        for block in BLOCKS + LATER:
            assert put(kept, block)
        kept.flush()
        assert get(kept, LATER[-1])
        assert kept.used_nbytes <= work._config.limit_nbytes
        assert not kept.why_off


class Everything(random.Random):
    """Every write and name that was not synced survives."""

    def random(self) -> float:
        return 0.0

    def randint(self, a: int, b: int) -> int:
        return b


def cuts(tight: bool, phase: int = 0) -> range:
    """Every call of the roomy work, every second one of the tight, which is longer."""
    step = 2 if tight and not MORE else 1
    return range(phase % step, num_changes(tight), step)


NUM_SEEDS = 1 + MORE


@pytest.mark.parametrize("tight", [False, True])
def test_what_was_not_synced_is_gone_at_every_cut(tight: bool) -> None:
    for cut in cuts(tight):
        after_a_cut(tight, cut, None)


@pytest.mark.parametrize("tight", [False, True])
def test_what_was_not_synced_survives_whole_at_every_cut(tight: bool) -> None:
    for cut in cuts(tight, phase=1):
        after_a_cut(tight, cut, Everything())


@pytest.mark.parametrize("tight", [False, True])
def test_what_was_not_synced_survives_in_torn_pieces_at_every_cut(tight: bool) -> None:
    for seed in range(NUM_SEEDS):
        for cut in cuts(tight, phase=seed):
            after_a_cut(tight, cut, random.Random(seed * 1000 + cut))


def test_there_are_at_least_300_images() -> None:
    assert (len(cuts(False)) + len(cuts(True))) * (2 + NUM_SEEDS) >= 300


def test_a_second_cut_while_the_first_is_mended_costs_nothing_more() -> None:
    for cut in range(0, num_changes(True), 9):
        for second in range(4):
            disk = VirtualDisk()
            work = Work(CutDisk(disk, Mains(cut)), tight=True)
            with pytest.raises(PowerCut):
                work.run()
            disk.crash(random.Random(cut))
            again = Work(CutDisk(disk, Mains(second)), tight=True)
            with pytest.raises(PowerCut):
                again.run()
            disk.crash(random.Random(cut))
            with store(disk, TIGHT) as kept:
                for block in BLOCKS:
                    get(kept, block)
