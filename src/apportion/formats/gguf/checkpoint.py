"""A GGUF checkpoint: one file, or the shards of one model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any

from apportion.formats.block import Bytes
from apportion.formats.checkpoint import TensorInfo
from apportion.formats.gguf.header import Header, read_header
from apportion.formats.gguf.shards import check_shard, check_totals, shard_paths
from apportion.formats.gguf.values import ValueType
from apportion.formats.source_file import SourceFile, read_tensor


class GgufCheckpoint:
    """An opened GGUF model; satisfies `formats.checkpoint.Checkpoint`. Metadata is that of the first shard.

    Attributes:
        version: 2 or 3.
        alignment: of the tensors' offsets, in bytes.
        value_types: the type of each metadata value in the file.
    """

    kind = "gguf"

    def __init__(self, sources: tuple[SourceFile, ...], headers: tuple[Header, ...]) -> None:
        self._sources = sources
        first = headers[0]
        self.files: tuple[Path, ...] = tuple(source.path for source in sources)
        self.metadata: Mapping[str, Any] = MappingProxyType(first.metadata)
        self.value_types: Mapping[str, ValueType] = MappingProxyType(first.value_types)
        self.version = first.version
        self.alignment = first.alignment
        tensors = {name: info for header in headers for name, info in header.tensors.items()}
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)

    def read(self, tensor: TensorInfo, out: Bytes, start: int = 0) -> None:
        """Fill `out` with the tensor's bytes from byte `start` on; see `Checkpoint.read`."""
        read_tensor(self._sources[tensor.file], tensor, out, start)

    def close(self) -> None:
        for source in self._sources:
            source.close()

    def __enter__(self) -> GgufCheckpoint:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_gguf(path: str | Path) -> GgufCheckpoint:
    """Open a GGUF file, or all shards of a split model through any one of them; reads headers only.

    Raises:
        NotFound: the file or one of its shards is missing.
        BadFile, Truncated, Unsupported, LimitExceeded: see `read_header`; shards that do not belong together.
        DiskFault: the operating system failed a read.
    """
    sources: list[SourceFile] = []
    headers: list[Header] = []
    try:
        for index, shard in enumerate(shard_paths(Path(path))):
            sources.append(SourceFile(shard))
            headers.append(read_header(sources[-1], index))
            check_shard(shard, index, headers)
        check_totals(Path(path), headers)
    except BaseException:
        for source in sources:
            source.close()
        raise
    return GgufCheckpoint(tuple(sources), tuple(headers))
