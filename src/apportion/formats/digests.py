"""Recorded digests of a checkpoint, in a file beside it, so that a later reading can tell what has changed.

Every byte of the model belongs to one digest: that of a tensor, that of what lies between a file's tensors
(its header), or that of a small file beside the tensors (tokenizer, configuration).
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apportion.core.disk import Disk, write_all
from apportion.core.errors import BadFile, Unsupported
from apportion.formats.bounded_json import read_json_bounded
from apportion.formats.opened import OpenedFiles
from apportion.formats.source_file import REAL_DISK

VERSION = 1
MAX_RECORD_NBYTES = 256 << 20
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Digests:
    """Hexadecimal blake2b digests by name.

    Attributes:
        tensors: of each tensor's bytes.
        headers: by file name, of everything in the file outside its tensors.
        side_files: by file name, of whole small files.
    """

    tensors: dict[str, str]
    headers: dict[str, str]
    side_files: dict[str, str]


def record_path(checkpoint: OpenedFiles) -> Path:
    """Where the record of a checkpoint lies unless the user says otherwise: beside its first file."""
    first = checkpoint.files[0]
    return first.with_name(f"{first.name}.digests.json")


def write_record(path: Path, digests: Digests, disk: Disk = REAL_DISK) -> None:
    """Write a record, whole or not at all.

    Raises:
        DiskFault: the operating system failed a write.
    """
    text = json.dumps({"apportion_digests": VERSION, **asdict(digests)}, indent=1)
    draft = path.with_name(f".{path.name}.partial")
    with disk.open(draft, "create") as file:
        write_all(file, text.encode(), 0)
        file.fdatasync()
    disk.rename(draft, path)


def read_record(path: Path, disk: Disk = REAL_DISK) -> Digests:
    """Read a record.

    Raises:
        NotFound, DiskFault: it cannot be read.
        BadFile, LimitExceeded: it is not a record.
        Unsupported: a newer version wrote it.
    """
    value = read_json_bounded(path, MAX_RECORD_NBYTES, max_depth=3, disk=disk)
    if not isinstance(value, dict) or "apportion_digests" not in value:
        raise BadFile(f"{path.name} is not a record of digests")
    if value["apportion_digests"] != VERSION:
        raise Unsupported(
            f"{path.name} has version {value['apportion_digests']!r}", f"version {VERSION} is read",
            "record the digests again",
        )  # fmt: skip
    parts = (_mapping(path, value, part) for part in ("tensors", "headers", "side_files"))
    return Digests(*parts)


def _mapping(path: Path, value: dict[str, Any], part: str) -> dict[str, str]:
    mapping = value.get(part)
    if not isinstance(mapping, dict) or not all(
        isinstance(digest, str) and _HEX.fullmatch(digest) for digest in mapping.values()
    ):
        raise BadFile(f"{path.name} has no proper {part}", hint="record the digests again")
    return mapping


def side_files(checkpoint: OpenedFiles) -> list[Path]:
    """The small files beside a folder's tensors; a GGUF file has none."""
    if checkpoint.packed:  # they lie inside
        return []
    folder = checkpoint.files[0].parent
    return [folder / name for name in checkpoint.side_files.names()]
