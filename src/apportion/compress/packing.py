"""Pack: a model rewritten so that every unit is one aligned read, ready to be computed on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apportion.compress.alone import alone
from apportion.compress.buffers import Buffers
from apportion.compress.draft import Draft
from apportion.compress.pieces import MAX_SIDE_FILE_NBYTES, Pieces
from apportion.compress.sections import Section, Sections, Table, sections_of
from apportion.core.clock import RealClock
from apportion.core.direct_disk import DirectDisk
from apportion.core.disk import Disk
from apportion.core.errors import ApportionError, DiskFault, FileChanged, NotFound, UsageError
from apportion.core.units import format_bytes
from apportion.formats import open_checkpoint
from apportion.formats.gguf import GgufCheckpoint, NewTensor, encode_header, shard_paths
from apportion.formats.gguf.writer import MAX_NAME_NBYTES
from apportion.formats.opened import OpenedFiles
from apportion.formats.packed import ARCHITECTURE, PAGE_NBYTES, VERSION, Keys, encode_layout
from apportion.formats.streaming import Progress, new_digest
from apportion.hardware.budget import parse_budget
from apportion.hardware.memory import memory_limits
from apportion.models import config_from_checkpoint
from apportion.sources import resolve

NOT_CARRIED = ("model.safetensors.index.json",)  # it names files that a packed file does not have
DROPPED = (Keys.PREFIX, "split.", "general.alignment")  # keys about the source's own files
NOTHING = np.empty(0, np.uint8)
DIRECT_DISK = DirectDisk()


@dataclass(frozen=True, slots=True)
class Packed:
    """What packing did.

    Attributes:
        path: the packed file.
        nbytes: its size.
        resumed_nbytes: what of it an earlier run had written already.
        seconds: how long it took.
        notes: what of the source is not in it, and what is stored in another format.
    """

    path: Path
    nbytes: int
    resumed_nbytes: int
    seconds: float
    notes: tuple[str, ...]


def pack(
    model: str | Path,
    out: str | Path,
    *,
    ram: int | str | None = None,
    force: bool = False,
    offline: bool = False,
    on_progress: Progress | None = None,
) -> Packed:
    """Write a model as a packed file, which is what streaming under a budget reads fastest. Lossless.

    A run that was interrupted is continued by the next one with the same arguments.

    Args:
        model: a path to a GGUF file or a folder of safetensors, or any other reference to a model.
        out: the file to write, `*.gguf`.
        ram: what the whole process may take, in bytes or as text such as `512MiB`, `50%` or `auto`; None for
            what is useful, which is little.
        force: replace `out` if it is there.
        offline: never use the network.
        on_progress: called with bytes done and bytes in all, when pulling and when writing.

    Raises:
        NotFound, SourceError: the reference names nothing that can be had.
        BadFile, Unsupported: the checkpoint cannot be read, or is of no known family.
        UsageError: `out` is there, or is no name for a packed file; the model is packed already; `ram` is
            no budget.
        DoesNotFit: `ram` is too small.
        DiskFault: a read or write failed, or the disk has not enough room; `out` is as it was.
    """
    limit = parse_budget(ram, memory_limits()) if isinstance(ram, str) else ram
    found = resolve(str(model), offline=offline, on_progress=on_progress)
    with open_checkpoint(found.path, DIRECT_DISK) as checkpoint:
        return pack_checkpoint(checkpoint, Path(out), ram=limit, force=force, on_progress=on_progress)


def pack_checkpoint(
    checkpoint: OpenedFiles,
    out: Path,
    *,
    ram: int | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
    disk: Disk = DIRECT_DISK,
) -> Packed:
    """As `pack`, from an open checkpoint, onto any disk."""
    clock = RealClock()
    begun = clock.now()
    _check_names(checkpoint, out, force)
    files = _small_files(checkpoint)
    sections = sections_of(
        config_from_checkpoint(checkpoint), checkpoint, {name: len(data) for name, data in files.items()}
    )
    header = _header(checkpoint, sections)
    mark = _mark(checkpoint, header, files)
    del files
    total = len(header) + sum(section.nbytes for section in sections.all)
    with alone(out), closing(Buffers(sections.matrices, ram)) as buffers:
        draft_path = out.with_name(f"{out.name}.partial")
        _require_room(disk, draft_path, total)
        draft = Draft(disk, draft_path, header, _num_digests(sections), mark)
        with closing(draft):
            resumed = _write(checkpoint, sections, draft, buffers, len(header), on_progress)
            if _mark(checkpoint, header, _small_files(checkpoint)) != mark:
                raise FileChanged("the model changed while it was packed", "", "pack it again")
            draft.publish(out)
    return Packed(out, total, resumed, clock.now() - begun, sections.notes)


def _write(
    checkpoint: OpenedFiles,
    sections: Sections,
    draft: Draft,
    buffers: Buffers,
    offset: int,
    on_progress: Progress | None,
) -> int:
    """Write every unit that is not there yet; the bytes of those that are."""
    total = offset + sum(section.nbytes for section in sections.all)
    resumed = 0
    with closing(Pieces(checkpoint, buffers)) as pieces:
        for index, section, unit, nbytes in _units(sections):
            if index and draft.may_hold(index) and draft.holds(index, offset, nbytes, buffers.kept()):
                resumed += nbytes
            elif index:
                draft.write(index, offset, pieces.of(section, unit))
            offset += nbytes
            if on_progress is not None:
                on_progress(offset, total)
    draft.wait()
    return resumed


def _units(sections: Sections) -> Iterator[tuple[int, Section, int, int]]:
    """Every unit in file order: its digest's place in the table (0 for the table itself), section, number and
    bytes.
    """
    index = 0
    for section in sections.all:
        if isinstance(section, Table):
            yield 0, section, 0, section.nbytes
        for unit in range(section.num_units):
            index += 1
            yield index, section, unit, section.nbytes // section.num_units


def _num_digests(sections: Sections) -> int:
    return 1 + sum(section.num_units for section in sections.all)


def _header(checkpoint: OpenedFiles, sections: Sections) -> bytes:
    own: dict[str, Any] = {
        "general.architecture": ARCHITECTURE,
        Keys.VERSION: VERSION,
        Keys.SOURCE: checkpoint.kind,
        Keys.LAYOUT: encode_layout(sections.layout),
    }
    types = {}
    if isinstance(checkpoint, GgufCheckpoint):
        own[Keys.ARCHITECTURE] = checkpoint.metadata["general.architecture"]
        kept = {key: value for key, value in checkpoint.metadata.items() if not key.startswith(DROPPED)}
        types = {key: checkpoint.value_types[key] for key in kept}
        own = {**kept, **own}
    tensors = [NewTensor(section.name, section.format, section.shape, NOTHING) for section in sections.all]
    return encode_header(own, tensors, PAGE_NBYTES, types)


def _small_files(checkpoint: OpenedFiles) -> dict[str, bytes]:
    """What a folder has beside its tensors, and GGUF's table can name."""
    files = checkpoint.side_files
    names = [name for name in files.names() if name not in NOT_CARRIED]
    found = {name: files.read(name, MAX_SIDE_FILE_NBYTES) for name in names}
    return {name: data for name, data in found.items() if data and len(Keys.FILE + name) <= MAX_NAME_NBYTES}


def _mark(checkpoint: OpenedFiles, header: bytes, files: Mapping[str, bytes]) -> bytes:
    """A digest of what the packed file is made from, as far as names, sizes and times tell."""
    digest = new_digest()
    digest.update(memoryview(header))
    for path in checkpoint.files:
        facts = path.stat()
        digest.update(memoryview(f"{path.name} {facts.st_size} {facts.st_mtime_ns}\n".encode()))
    for data in files.values():
        digest.update(memoryview(data))
    return bytes.fromhex(digest.hexdigest())


def _check_names(checkpoint: OpenedFiles, out: Path, force: bool) -> None:
    if checkpoint.packed:
        raise UsageError(f"{checkpoint.files[0].name} is packed already", hint="run it as it is")
    if out.suffix != ".gguf" or shard_paths(out) != [out]:
        raise UsageError(f"{out.name} is no name for a packed file", hint="let it end in .gguf, unnumbered")
    if not out.parent.is_dir():
        raise NotFound(f"there is no folder {out.parent}", hint="make it first")
    if out.exists() and any(path.exists() and out.samefile(path) for path in checkpoint.files):
        raise UsageError("a model cannot be packed into its own file", hint="give another name")
    if out.exists() and not force:
        raise UsageError(f"{out} is there already", hint="give another name, or --force to replace it")


def _require_room(disk: Disk, draft: Path, total: int) -> None:
    """Refuse to begin what the disk cannot hold."""
    try:
        there = disk.size(draft)
    except ApportionError:
        there = 0
    free = shutil.disk_usage(draft.parent).free
    if free + there < total:
        raise DiskFault(
            f"the disk has no room for the packed model in {draft.parent}",
            hint="free some space, or choose another disk",
            need=format_bytes(total - there),
            free=format_bytes(free),
        )
