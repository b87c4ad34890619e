"""A checkpoint: a model as files. What every reader (GGUF, safetensors folder) offers to the layers above."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from apportion.formats.block import BlockFormat, Bytes
from apportion.formats.side_files import SideFiles


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies. `shape` is row-major: the last dimension is contiguous (the reverse of GGUF's
    `ne`).

    Attributes:
        file: index into `Checkpoint.files`.
        offset: absolute, in bytes.
        stride: bytes from one entry of the first dimension to the next; 0 where they touch.
        interleaved: every 16 rows lie as a panel; see `formats.panels`.
    """

    name: str
    format: BlockFormat
    shape: tuple[int, ...]
    file: int
    offset: int
    nbytes: int
    stride: int = 0
    interleaved: bool = False

    @property
    def num_elements(self) -> int:
        n = 1
        for dim in self.shape:
            n *= dim
        return n

    def places(self, start: int, nbytes: int) -> Iterator[tuple[int, int]]:
        """Where in the file its bytes from `start` on lie, in order: offset and number of bytes."""
        if not self.stride:
            yield self.offset + start, nbytes
            return
        each = self.nbytes // self.shape[0]
        while nbytes:
            index, inside = divmod(start, each)
            count = min(nbytes, each - inside)
            yield self.offset + index * self.stride + inside, count
            start, nbytes = start + count, nbytes - count


@dataclass(frozen=True, slots=True)
class Unit:
    """A stretch of a file that is verified as one.

    Attributes:
        stretch: where it lies, by a name to call it.
        tensors: those whose numbers it holds.
        digest: what its digest should be, where the file says so.
    """

    stretch: TensorInfo
    tensors: tuple[TensorInfo, ...]
    digest: str | None = None


class Checkpoint(Protocol):
    """An opened checkpoint. Opening reads and checks headers only; `read` copies bytes into the caller's
    memory.
    """

    @property
    def kind(self) -> str:
        """In whose words the metadata is: `gguf` or `safetensors`."""

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """GGUF: its key-value pairs. Safetensors folder: the parsed `config.json`."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """By name, in file order."""

    @property
    def side_files(self) -> SideFiles:
        """What belongs to a model of safetensors beside its tensors; none for GGUF."""

    def read(self, tensor: TensorInfo, out: Bytes, start: int = 0) -> None:
        """Fill `out` (1-D, contiguous uint8) with the tensor's bytes from byte `start` on.

        Raises:
            Truncated: the file has become shorter than its header says.
            DiskFault: the operating system failed the read.
        """

    def close(self) -> None: ...
