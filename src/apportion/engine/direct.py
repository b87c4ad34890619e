"""A checkpoint whose tensors are read past the page cache, for loading under a budget."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from apportion.core.claim import Kind
from apportion.core.units import MiB
from apportion.formats.block import Bytes
from apportion.formats.checkpoint import Checkpoint, TensorInfo
from apportion.formats.side_files import SideFiles
from apportion.memory import Arena, Ledger, Part, Reader, Slot, Ticket

BUFFER_NBYTES = MiB
NUM_BUFFERS = 8


class DirectCheckpoint:
    """`formats.checkpoint.Checkpoint` over another one, whose files it opens once more.

    Args:
        ledger: pays for the buffers, 8 MiB.

    Raises:
        DoesNotFit: the ledger has no room for the buffers.
        NotFound, BadFile, DiskFault: a file cannot be opened.
    """

    def __init__(self, checkpoint: Checkpoint, ledger: Ledger) -> None:
        self._checkpoint = checkpoint
        self._reader = Reader(depth=NUM_BUFFERS)
        try:
            self._arena = Arena(ledger, Kind.IO_BUFFERS, BUFFER_NBYTES, NUM_BUFFERS)
            self._numbers = [self._reader.open(path) for path in checkpoint.files]
        except BaseException:
            self.close()
            raise

    @property
    def kind(self) -> str:
        return self._checkpoint.kind

    @property
    def files(self) -> tuple[Path, ...]:
        return self._checkpoint.files

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self._checkpoint.metadata

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self._checkpoint.tensors

    @property
    def side_files(self) -> SideFiles:
        return self._checkpoint.side_files

    def read(self, tensor: TensorInfo, out: Bytes, start: int = 0) -> None:
        flying: deque[tuple[Ticket, Slot, Part, int]] = deque()
        done = 0
        try:
            while done < out.nbytes or flying:
                slot = self._arena.take() if done < out.nbytes else None
                if slot is None:
                    self._land(*flying.popleft(), out)
                    continue
                offset = tensor.offset + start + done
                nbytes = min(out.nbytes - done, BUFFER_NBYTES - offset % 4096)
                part = Part(self._numbers[tensor.file], offset, nbytes)
                flying.append((self._reader.submit(self._arena, slot, [part]), slot, part, done))
                done += nbytes
        except BaseException:
            self.close()  # reads in flight end first
            raise

    def _land(self, ticket: Ticket, slot: Slot, part: Part, at: int, out: Bytes) -> None:
        self._reader.wait(ticket)
        out[at : at + part.nbytes] = self._arena.view(slot)[part.first : part.first + part.nbytes]
        self._arena.release(slot)

    def close(self) -> None:
        """Give the buffers back; the other checkpoint stays open."""
        self._reader.close()
        if hasattr(self, "_arena"):
            self._arena.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
