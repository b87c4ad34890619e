"""What opened checkpoints of every kind have in common: their files, reading from them, closing them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from apportion.core.errors import BadFile
from apportion.formats.block import Bytes
from apportion.formats.blocks import format_by_name
from apportion.formats.checkpoint import TensorInfo, Unit
from apportion.formats.side_files import NoFiles, SideFiles
from apportion.formats.source_file import SourceFile

RAW_BYTES = format_by_name("i8")


class OpenedFiles:
    """The open files of a checkpoint and the tensors in them. Owns the files; closing twice is allowed.

    Attributes:
        sources: the open files.
        file_sizes: in bytes, when the files were opened.
        packed: whether the weights lie as they are used; see `formats.packed`.
    """

    kind = ""
    packed = False
    side_files: SideFiles = NoFiles()

    def __init__(
        self, sources: Sequence[SourceFile], metadata: dict[str, Any], tensors: dict[str, TensorInfo]
    ) -> None:
        self.sources = tuple(sources)
        self.files: tuple[Path, ...] = tuple(source.path for source in sources)
        self.file_sizes: tuple[int, ...] = tuple(source.size for source in sources)
        self.metadata: Mapping[str, Any] = MappingProxyType(metadata)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)

    def read(self, tensor: TensorInfo, out: Bytes, start: int = 0) -> None:
        """Fill `out` with the tensor's bytes from byte `start` on; see `Checkpoint.read`."""
        assert 0 <= start <= start + out.nbytes <= tensor.nbytes, (tensor.name, start, out.nbytes)
        source, view, done = self.sources[tensor.file], out.data.cast("B"), 0
        for offset, nbytes in tensor.places(start, out.nbytes):
            source.read_into(view[done : done + nbytes], offset)
            done += nbytes

    def stretch(self, file: int, offset: int, nbytes: int) -> TensorInfo:
        """Any bytes of a file, to be read like a tensor of bytes without a name."""
        return TensorInfo("", RAW_BYTES, (nbytes,), file, offset, nbytes)

    def units(self) -> Iterator[Unit]:
        """What is verified as one, in file order: here each tensor."""
        return (Unit(tensor, (tensor,)) for tensor in self.tensors.values())

    def close(self) -> None:
        for source in self.sources:
            source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def merge_tensors(files: Iterable[tuple[SourceFile, Mapping[str, TensorInfo]]]) -> dict[str, TensorInfo]:
    """The tensors of all files together.

    Raises:
        BadFile: two files have a tensor of the same name.
    """
    merged: dict[str, TensorInfo] = {}
    holders: list[str] = []
    for source, tensors in files:
        holders.append(source.path.name)
        for name, tensor in tensors.items():
            if name in merged:
                raise BadFile(
                    f"tensor {name!r} stands in {holders[merged[name].file]} and in {source.path.name}",
                    "the files do not belong to one model",
                    "download the whole model again",
                )
            merged[name] = tensor
    return merged
