"""A checkpoint: a model as files. What every reader (GGUF, safetensors folder) offers to the layers above."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from apportion.formats.block import BlockFormat, Bytes


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies. `shape` is row-major: the last dimension is contiguous (the reverse of GGUF's
    `ne`).
    """

    name: str
    format: BlockFormat
    shape: tuple[int, ...]
    file: int  # index into Checkpoint.files
    offset: int  # absolute, in bytes
    nbytes: int

    @property
    def num_elements(self) -> int:
        n = 1
        for dim in self.shape:
            n *= dim
        return n


class Checkpoint(Protocol):
    """An opened checkpoint. Opening reads and checks headers only; `read` copies bytes into the caller's
    memory.
    """

    @property
    def kind(self) -> str:
        """`gguf` or `safetensors`."""

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """GGUF: its key-value pairs. Safetensors folder: the parsed `config.json`."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """By name, in file order."""

    def read(self, tensor: TensorInfo, out: Bytes, start: int = 0) -> None:
        """Fill `out` (1-D, contiguous uint8) with the tensor's bytes from byte `start` on.

        Raises:
            Truncated: the file has become shorter than its header says.
            DiskFault: the operating system failed the read.
        """

    def close(self) -> None: ...
