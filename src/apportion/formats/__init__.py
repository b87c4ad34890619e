"""Containers and block formats: how a model lies in files, and how its numbers are stored."""

from __future__ import annotations

from pathlib import Path

from apportion.core.disk import Disk
from apportion.formats.opened import OpenedFiles
from apportion.formats.source_file import REAL_DISK


def open_checkpoint(path: str | Path, disk: Disk = REAL_DISK) -> OpenedFiles:
    """Open a model: a GGUF file (any shard of a split one), a folder of safetensors with `config.json`, or a
    safetensors file beside its `config.json`; or a packed file. Reads and checks headers only.

    Raises:
        NotFound: there is no model there.
        BadFile, Truncated, Unsupported, LimitExceeded: what is there breaks its format, or is not read.
        DiskFault: the operating system failed a read.
    """
    from apportion.formats.gguf import open_gguf
    from apportion.formats.packed import PackedCheckpoint, is_packed
    from apportion.formats.safetensors import open_safetensors

    path = Path(path)
    if path.is_dir() or path.suffix == ".safetensors":
        return open_safetensors(path, disk)
    checkpoint = open_gguf(path, disk)
    if not is_packed(checkpoint.metadata):
        return checkpoint
    try:
        return PackedCheckpoint(checkpoint)
    except BaseException:
        checkpoint.close()
        raise
