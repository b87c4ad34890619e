"""A disk in memory that knows what a power cut would leave of it.

Data is safe after `fdatasync` of its file, a name (created, renamed, removed) after `sync_folder` of its
folder. `crash` drops or tears what was not. Names that were not synced survive as a prefix of what was done,
as on a journaling file system; data that was not synced survives in any combination of 512-byte sectors.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from apportion.core.disk import Buffer, OpenMode, fault

SECTOR_NBYTES = 512


@dataclass(slots=True)
class _Write:
    offset: int
    data: bytes


@dataclass(slots=True)
class _Node:
    """A file's content: as seen now, as on the platter, and the writes between the two."""

    seen: bytearray = field(default_factory=bytearray)
    safe: bytearray = field(default_factory=bytearray)
    unsynced: list[_Write] = field(default_factory=list)


@dataclass(slots=True)
class _NameChange:
    """`name` now means `node` (None: nothing), and in the same step `also_gone` means nothing."""

    name: Path
    node: _Node | None
    also_gone: Path | None = None

    def apply(self, names: dict[Path, _Node]) -> None:
        if self.also_gone is not None:
            names.pop(self.also_gone, None)
        if self.node is None:
            names.pop(self.name, None)
        else:
            names[self.name] = self.node


class VirtualDisk:
    """Files by path. Folders exist as soon as they are named. `capacity` bounds the bytes of all files."""

    def __init__(self, capacity: int | None = None) -> None:
        self._capacity = capacity
        self._names: dict[Path, _Node] = {}
        self._safe_names: dict[Path, _Node] = {}
        self._unsynced_names: list[_NameChange] = []
        self._epoch = 0
        self._locked: dict[Path, VirtualLock] = {}

    def open(self, path: str | Path, mode: OpenMode = "read") -> VirtualFile:
        path = Path(path)
        if mode == "create":
            self._create(path)
        node = self._node("open", path)
        epoch = self._epoch
        return VirtualFile(path, node, mode != "read", self._room_for, lambda: epoch == self._epoch)

    def size(self, path: str | Path) -> int:
        return len(self._node("stat", path).seen)

    def listdir(self, path: str | Path) -> list[str]:
        folder = Path(path)
        inside = (name.relative_to(folder) for name in self._names if name.is_relative_to(folder))
        return sorted({name.parts[0] for name in inside if name.parts})

    def rename(self, source: str | Path, target: str | Path) -> None:
        node = self._node("rename", source)
        if Path(source) != Path(target):
            self._change(_NameChange(Path(target), node, also_gone=Path(source)))

    def remove(self, path: str | Path) -> None:
        self._node("remove", path)
        self._change(_NameChange(Path(path), None))

    def sync_folder(self, path: str | Path) -> None:
        # A journal commits in order: syncing one folder makes everything before it safe, too.
        folder = Path(path)
        touched = [i for i, change in enumerate(self._unsynced_names) if _touches(change, folder)]
        if touched:
            self._commit_names(touched[-1] + 1)

    def make_folder(self, path: str | Path) -> None:
        """Folders exist as soon as they are named."""

    def lock(self, path: str | Path) -> VirtualLock | None:
        path = Path(path)
        if path in self._locked:
            return None
        if path not in self._names:
            self._create(path)
        lock = VirtualLock(path, self._locked)
        self._locked[path] = lock
        return lock

    def crash(self, rng: random.Random | None = None) -> None:
        """Cut the power: every open file is dead, and what was not synced is gone, or survives in part as
        `rng` says.
        """
        if rng is not None:
            self._commit_names(rng.randint(0, len(self._unsynced_names)))
        for node in {id(node): node for node in self._safe_names.values()}.values():
            _cut_power(node, rng)
        self._unsynced_names.clear()
        self._names = dict(self._safe_names)
        self._locked.clear()
        self._epoch += 1

    def end_process(self) -> None:
        """The process that uses the disk dies: its open files and locks are gone, what it wrote stays."""
        self._locked.clear()
        self._epoch += 1

    def flip_bit(self, path: str | Path, offset: int, bit: int = 0) -> None:
        """Bit rot: one bit of a file changes, seen and safe."""
        node = self._node("write", path)
        node.seen[offset] ^= 1 << bit
        if offset < len(node.safe):
            node.safe[offset] ^= 1 << bit

    def _create(self, path: Path) -> None:
        # An existing file is emptied by giving its name to a new one: a crash then shows the old or the new.
        self._change(_NameChange(path, _Node()))

    def _change(self, change: _NameChange) -> None:
        change.apply(self._names)
        self._unsynced_names.append(change)

    def _commit_names(self, count: int) -> None:
        for change in self._unsynced_names[:count]:
            change.apply(self._safe_names)
        del self._unsynced_names[:count]

    def _node(self, operation: str, path: str | Path) -> _Node:
        node = self._names.get(Path(path))
        if node is None:
            raise fault(operation, path, errno.ENOENT)
        return node

    def _room_for(self, extra: int) -> int:
        """How many of `extra` further bytes there is room for."""
        if self._capacity is None:
            return extra
        used = sum(len(node.seen) for node in {id(node): node for node in self._names.values()}.values())
        return max(min(extra, self._capacity - used), 0)


class VirtualLock:
    """A lock on a `VirtualDisk`; a crash ends it."""

    def __init__(self, path: Path, locked: dict[Path, VirtualLock]) -> None:
        self._path = path
        self._locked = locked

    def close(self) -> None:
        if self._locked.get(self._path) is self:
            del self._locked[self._path]


class VirtualFile:
    """An open file of a `VirtualDisk`."""

    def __init__(
        self,
        path: Path,
        node: _Node,
        writable: bool,
        room_for: Callable[[int], int],
        is_powered: Callable[[], bool],
    ) -> None:
        self._path = path
        self._node = node
        self._writable = writable
        self._room_for = room_for
        self._is_powered = is_powered
        self._closed = False

    @property
    def path(self) -> Path:
        return self._path

    @property
    def size(self) -> int:
        self._check("stat")
        return len(self._node.seen)

    def pread(self, nbytes: int, offset: int) -> bytes:
        self._check("read", offset)
        return bytes(self._node.seen[offset : offset + nbytes])

    def pread_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        view = memoryview(buffer).cast("B")
        data = self.pread(len(view), offset)
        view[: len(data)] = data
        return len(data)

    def pwrite(self, data: Buffer, offset: int) -> int:
        self._check("write", offset)
        if not self._writable:
            raise fault("write", self._path, errno.EBADF, offset)
        data = bytes(data)
        growth = max(offset + len(data) - len(self._node.seen), 0)
        count = len(data) - (growth - self._room_for(growth))
        if data and count <= 0:
            raise fault("write", self._path, errno.ENOSPC, offset)
        write = _Write(offset, data[:count])
        _apply(self._node.seen, write)
        self._node.unsynced.append(write)
        return count

    def fdatasync(self) -> None:
        self._check("sync")
        self._node.safe[:] = self._node.seen
        self._node.unsynced.clear()

    def close(self) -> None:
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, operation: str, offset: int | None = None) -> None:
        if self._closed:
            raise fault(operation, self._path, errno.EBADF, offset)
        if not self._is_powered():
            raise fault(operation, self._path, errno.ESTALE, offset)


def _touches(change: _NameChange, folder: Path) -> bool:
    return folder in (change.name.parent, change.also_gone and change.also_gone.parent)


def _apply(content: bytearray, write: _Write) -> None:
    if not write.data:
        return
    end = write.offset + len(write.data)
    content.extend(bytes(max(end - len(content), 0)))
    content[write.offset : end] = write.data


def _cut_power(node: _Node, rng: random.Random | None) -> None:
    """Leave of the unsynced writes what `rng` lets survive, sector by sector."""
    if rng is not None:
        for write in node.unsynced:
            for sector in _sectors(write):
                if rng.random() < 0.5:
                    _apply(node.safe, sector)
    node.seen[:] = node.safe
    node.unsynced.clear()


def _sectors(write: _Write) -> list[_Write]:
    """The write, cut where sectors of the file begin."""
    pieces, start, end = [], write.offset, write.offset + len(write.data)
    while start < end:
        stop = min((start // SECTOR_NBYTES + 1) * SECTOR_NBYTES, end)
        pieces.append(_Write(start, write.data[start - write.offset : stop - write.offset]))
        start = stop
    return pieces
