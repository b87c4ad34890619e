"""A GGUF checkpoint: one file, or the shards of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from apportion.core.disk import Disk
from apportion.core.errors import NotFound
from apportion.formats.gguf.header import Header, read_header
from apportion.formats.gguf.shards import check_shard, check_totals, missing_shards, shard_paths
from apportion.formats.gguf.values import ValueType
from apportion.formats.opened import OpenedFiles, merge_tensors
from apportion.formats.source_file import REAL_DISK, SourceFile


class GgufCheckpoint(OpenedFiles):
    """An opened GGUF model; satisfies `formats.checkpoint.Checkpoint`. Metadata is that of the first shard.

    Attributes:
        version: 2 or 3.
        alignment: of the tensors' offsets, in bytes.
        value_types: the type of each metadata value in the file.
    """

    kind = "gguf"

    def __init__(self, sources: Sequence[SourceFile], headers: Sequence[Header]) -> None:
        first = headers[0]
        tables = (header.tensors for header in headers)
        super().__init__(sources, first.metadata, merge_tensors(zip(sources, tables, strict=True)))
        self.value_types: Mapping[str, ValueType] = MappingProxyType(first.value_types)
        self.version = first.version
        self.alignment = first.alignment


def open_gguf(path: str | Path, disk: Disk = REAL_DISK) -> GgufCheckpoint:
    """Open a GGUF file, or all shards of a split model through any one of them; reads headers only.

    Raises:
        NotFound: the file or one of its shards is missing.
        BadFile, Truncated, Unsupported, LimitExceeded: see `read_header`; shards that do not belong together.
        DiskFault: the operating system failed a read.
    """
    path = Path(path)
    paths = shard_paths(path)
    sources: list[SourceFile] = []
    headers: list[Header] = []
    try:
        for index, shard in enumerate(paths):
            sources.append(SourceFile(shard, disk))
            headers.append(read_header(sources[-1], index))
            check_shard(shard, index, headers[-1])
        check_totals(path, headers)
        return GgufCheckpoint(sources, headers)
    except BaseException as error:
        for source in sources:
            source.close()
        if isinstance(error, NotFound) and len(paths) > 1:
            raise missing_shards(path, paths, disk) from error
        raise
