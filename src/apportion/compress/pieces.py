"""The bytes of a packed file's sections, made piece by piece from what a checkpoint stores."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from apportion.compress.buffers import Buffers
from apportion.compress.sections import Experts, Matrix, Section, SideFile, Vector, padded
from apportion.core.errors import FileChanged
from apportion.formats.block import Bytes
from apportion.formats.checkpoint import Checkpoint
from apportion.formats.packed import EXPERTS, PAGE_NBYTES
from apportion.kernels import Weight
from apportion.models.recipes import Reader

MAX_SIDE_FILE_NBYTES = 64 << 20


class Pieces:
    """Makes units. A piece lives until the next but one is asked for."""

    def __init__(self, checkpoint: Checkpoint, buffers: Buffers) -> None:
        self._files = checkpoint.side_files
        self._reader = Reader(checkpoint)
        self._buffers = buffers
        self._pool = ThreadPoolExecutor(len(EXPERTS), "apportion-pieces")

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def of(self, section: Section, unit: int) -> Iterator[Bytes]:
        """All bytes of a unit, padding included, in order.

        Raises:
            Truncated, DiskFault: the checkpoint cannot be read.
        """
        match section:
            case Experts():
                yield from self._expert(section, unit)
            case Matrix():
                nbytes = section.shape[0] * section.entry_nbytes
                yield from self._entries(section, 0, section.shape[0], section.nbytes - nbytes)
            case Vector():
                yield _with_padding(self._vector(section))
            case SideFile():
                yield _with_padding(self._small_file(section))

    def _expert(self, section: Experts, expert: int) -> Iterator[Bytes]:
        stride = section.shape[1]
        if stride <= self._buffers.piece_nbytes:
            yield self._whole_expert(section, expert, self._buffers.kept()[:stride])
            return
        starts = [part.offset for part in section.parts.values()] + [stride]
        for stack, part, after in zip(section.stacks, section.parts.values(), starts[1:], strict=True):
            yield from self._entries(stack, expert, expert + 1, after - part.offset - part.nbytes)

    def _whole_expert(self, section: Experts, expert: int, room: Bytes) -> Bytes:
        end = 0
        jobs = []
        for stack, part in zip(section.stacks, section.parts.values(), strict=True):
            room[end : part.offset] = 0
            end = part.offset + part.nbytes
            jobs.append(partial(self._make, stack, expert, 1, room[part.offset : end]))
        room[end:] = 0
        # The disk serves several reads at once faster. What takes memory beside its place goes one by one.
        at_once = not any(stack.recodes or stack.scratch_nbytes for stack in section.stacks)
        for _ in self._pool.map(_call, jobs) if at_once else map(_call, jobs):
            pass
        return room

    def _entries(self, matrix: Matrix, first: int, last: int, padding: int) -> Iterator[Bytes]:
        """Entries first..last-1 along the first dimension, then zeros."""
        largest = max(matrix.entry_nbytes, matrix.stored_entry_nbytes)
        step = max(1, self._buffers.piece_nbytes // (largest * matrix.grain)) * matrix.grain
        for start in range(first, last, step):
            count = min(step, last - start)
            room = self._buffers.kept()
            nbytes = count * matrix.entry_nbytes
            self._make(matrix, start, count, room[:nbytes])
            end = nbytes + (padding if start + count == last else 0)
            room[nbytes:end] = 0
            yield room[:end]

    def _make(self, matrix: Matrix, first: int, count: int, kept: Bytes) -> None:
        rows = kept.reshape(-1, matrix.format.row_nbytes(matrix.shape[-1]))
        if matrix.recodes:
            stored = self._buffers.stored[: count * matrix.stored_entry_nbytes]
            matrix.recipe.fill(self._reader, stored, first)
            matrix.load.rows_into(stored.reshape(len(rows), -1), rows)
        else:
            matrix.recipe.fill(self._reader, kept, first)
        if matrix.interleaved:
            Weight(matrix.format, (len(rows), matrix.shape[-1]), rows).interleave()

    def _vector(self, vector: Vector) -> Bytes:
        stored_format = vector.recipe.format(self._reader.tensors)
        stored = np.empty(stored_format.row_nbytes(int(np.prod(vector.shape))), np.uint8)
        vector.recipe.fill(self._reader, stored)
        return stored_format.dequantize(stored).view(np.uint8)

    def _small_file(self, section: SideFile) -> Bytes:
        data = self._files.read(section.file, MAX_SIDE_FILE_NBYTES)
        if (len(data),) != section.shape:
            raise FileChanged(f"{section.file} changed while the model was packed")
        return np.frombuffer(data, np.uint8)


def _call(job: Callable[[], None]) -> None:
    job()


def _with_padding(data: Bytes) -> Bytes:
    out = np.zeros(padded(data.size, PAGE_NBYTES), np.uint8)
    out[: data.size] = data
    return out
