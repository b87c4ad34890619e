"""Reading a checkpoint's bytes through one small buffer, and hashing them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from apportion.formats.block import Bytes
from apportion.formats.checkpoint import TensorInfo, Unit
from apportion.formats.opened import OpenedFiles
from apportion.formats.panels import PANEL_ROWS
from apportion.formats.source_file import SourceFile

CHUNK_NBYTES = 4 << 20
DIGEST_NBYTES = 32

Progress: TypeAlias = Callable[[int, int], None]


class Hasher(Protocol):
    def update(self, data: memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class NoHash:
    """Stands where no digest is wanted."""

    def update(self, data: memoryview, /) -> None:
        pass

    def hexdigest(self) -> str:
        return ""


def new_digest() -> Hasher:
    """The digest that records hold."""
    return hashlib.blake2b(digest_size=DIGEST_NBYTES)


def new_sha256() -> Hasher:
    """The digest that model hubs publish."""
    return hashlib.sha256()


class Stream:
    """Reads tensors in chunks of whole blocks (of whole blocks of 16 rows, where they lie in panels) and
    reports progress.
    """

    def __init__(self, checkpoint: OpenedFiles, on_progress: Progress | None, total: int) -> None:
        self._checkpoint = checkpoint
        self._on_progress = on_progress
        self._done, self._total = 0, total
        largest = max((tensor.nbytes for tensor in checkpoint.tensors.values()), default=0)
        self._buffer = np.empty(min(max(largest, 1 << 16), CHUNK_NBYTES), np.uint8)

    def chunks(self, tensor: TensorInfo) -> Iterator[Bytes]:
        """The tensor's bytes; each chunk lives until the next one is asked for.

        Raises:
            Truncated, DiskFault: see `Checkpoint.read`.
        """
        whole = tensor.format.block_nbytes * (PANEL_ROWS if tensor.interleaved else 1)
        step = self._buffer.size // whole * whole
        for start in range(0, tensor.nbytes, step):
            chunk = self._buffer[: min(step, tensor.nbytes - start)]
            self._checkpoint.read(tensor, chunk, start)
            yield chunk
            self._tick(chunk.size)

    def file_pieces(self, path: Path) -> Iterator[Bytes]:
        """The bytes of any file; each piece lives until the next one is asked for.

        Raises:
            NotFound, BadFile, Truncated, DiskFault: it cannot be read.
        """
        source = SourceFile(path)
        try:
            for start in range(0, source.size, self._buffer.size):
                piece = self._buffer[: min(self._buffer.size, source.size - start)]
                source.read_into(piece.data, start)
                yield piece
                self._tick(piece.size)
        finally:
            source.close()

    def _tick(self, nbytes: int) -> None:
        self._done += nbytes
        if self._on_progress is not None:
            self._on_progress(min(self._done, self._total), self._total)


def pieces_of(checkpoint: OpenedFiles, unit: Unit) -> Iterator[TensorInfo]:
    """The whole of a unit, in order: its tensors, and what lies around them."""
    stretch = unit.stretch
    end = stretch.offset
    for tensor in sorted(unit.tensors, key=lambda tensor: tensor.offset):
        if tensor.offset > end:
            yield checkpoint.stretch(stretch.file, end, tensor.offset - end)
        yield tensor
        end = tensor.offset + tensor.nbytes
    if end < stretch.offset + stretch.nbytes:
        yield checkpoint.stretch(stretch.file, end, stretch.offset + stretch.nbytes - end)


def outside_tensors(checkpoint: OpenedFiles, file: int) -> Iterator[TensorInfo]:
    """The stretches of a file that belong to no unit: its header, padding, whatever follows."""
    end = 0
    inside = (unit.stretch for unit in checkpoint.units() if unit.stretch.file == file)
    for tensor in sorted(inside, key=lambda tensor: tensor.offset):
        if tensor.offset > end:
            yield checkpoint.stretch(file, end, tensor.offset - end)
        end = max(end, tensor.offset + tensor.nbytes)
    if end < checkpoint.file_sizes[file]:
        yield checkpoint.stretch(file, end, checkpoint.file_sizes[file] - end)
