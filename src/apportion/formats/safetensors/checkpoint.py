"""A Hugging Face model folder: `config.json` and one or more safetensors files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apportion.core.disk import Disk
from apportion.core.errors import BadFile, NotFound
from apportion.formats.bounded_json import read_json_bounded
from apportion.formats.folder import file_in
from apportion.formats.opened import OpenedFiles, merge_tensors
from apportion.formats.safetensors.header import Header, read_header
from apportion.formats.side_files import FolderFiles
from apportion.formats.source_file import REAL_DISK, SourceFile

CONFIG_NAME = "config.json"
SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
MAX_INDEX_NBYTES = 64 << 20
MAX_SHARDS = 4096


class SafetensorsCheckpoint(OpenedFiles):
    """An opened model folder; satisfies `formats.checkpoint.Checkpoint`. Metadata is its `config.json`."""

    kind = "safetensors"

    def __init__(
        self, sources: Sequence[SourceFile], headers: Sequence[Header], config: dict[str, Any]
    ) -> None:
        tables = (header.tensors for header in headers)
        super().__init__(sources, config, merge_tensors(zip(sources, tables, strict=True)))
        self.side_files = FolderFiles(self.files[0].parent)


def open_safetensors(path: str | Path, disk: Disk = REAL_DISK) -> SafetensorsCheckpoint:
    """Open a model folder, or the folder of one of its safetensors files; reads headers only.

    Raises:
        NotFound: `config.json`, the tensors or one of the shards are missing.
        BadFile, Truncated, Unsupported, LimitExceeded: a file breaks its format, or leads out of the folder.
        DiskFault: the operating system failed a read.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    config = _read_config(folder, disk)
    names, weight_map = _tensor_files(folder, None if path.is_dir() else path.name, disk)
    sources: list[SourceFile] = []
    headers: list[Header] = []
    try:
        for index, name in enumerate(names):
            sources.append(SourceFile(file_in(folder, name), disk))
            headers.append(read_header(sources[-1], index))
        _check_weight_map(names, headers, weight_map)
        return SafetensorsCheckpoint(sources, headers, config)
    except BaseException:
        for source in sources:
            source.close()
        raise


def _read_config(folder: Path, disk: Disk) -> dict[str, Any]:
    config = read_json_bounded(file_in(folder, CONFIG_NAME), disk=disk)
    if not isinstance(config, dict):
        raise BadFile(f"{CONFIG_NAME} is not an object", f"it is a {type(config).__name__}")
    return config


def _tensor_files(folder: Path, chosen: str | None, disk: Disk) -> tuple[list[str], dict[str, str]]:
    """The names of the files that hold the tensors, and the index's claim of which tensor lies where."""
    if (folder / INDEX_NAME).exists() and not (folder / SINGLE_NAME).exists():
        weight_map = _read_index(folder, disk)
        names = sorted(set(weight_map.values()))
        if chosen is None or chosen in names:
            return names, weight_map
    if chosen is None and not (folder / SINGLE_NAME).exists():
        chosen = _only_file(folder)
    return [chosen or SINGLE_NAME], {}


def _only_file(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    if len(names) == 1:
        return names[0]
    raise NotFound(
        f"no {SINGLE_NAME} in {folder}",
        f"there are {len(names)} other .safetensors files, and no {INDEX_NAME}" if names else "",
        "only GGUF and safetensors are read; files of other kinds must be converted first",
    )


def _read_index(folder: Path, disk: Disk) -> dict[str, str]:
    index = read_json_bounded(file_in(folder, INDEX_NAME), MAX_INDEX_NBYTES, disk=disk)
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadFile(f"{INDEX_NAME} has no weight_map")
    for name in weight_map.values():
        if not isinstance(name, str) or not name.endswith(".safetensors"):
            raise BadFile(
                f"{INDEX_NAME} names something else than safetensors files", f"it names {name!a:.80}"
            )
    if len(set(weight_map.values())) > MAX_SHARDS:
        raise BadFile(f"{INDEX_NAME} names too many files", limit=MAX_SHARDS)
    return weight_map


def _check_weight_map(names: list[str], headers: list[Header], weight_map: dict[str, str]) -> None:
    held = dict(zip(names, headers, strict=True))
    for tensor, name in weight_map.items():
        if tensor not in held[name].tensors:
            raise BadFile(
                f"tensor {tensor[:80]!a} is not in {name}",
                f"{INDEX_NAME} says that it is",
                "download the whole model again",
            )
