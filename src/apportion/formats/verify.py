"""Checking a checkpoint: layout, numbers that are not finite, and digests. One pass, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from apportion.core.errors import ApportionError
from apportion.formats.checkpoint import TensorInfo, Unit
from apportion.formats.digests import Digests, side_files
from apportion.formats.opened import OpenedFiles
from apportion.formats.panels import PANEL_ROWS
from apportion.formats.scales import count_not_finite
from apportion.formats.streaming import (
    Hasher,
    NoHash,
    Progress,
    Stream,
    new_digest,
    new_sha256,
    outside_tensors,
    pieces_of,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: `not_finite`, `no_elements`, `out_of_range`, `overlap`, `changed`, `missing`, `not_recorded`,
            `sha256`, or the code of the error that reading met.
        file: the file's name.
        tensor: the tensor's name, when it is about one.
        what: for a person.
        numbers: the figures behind it.
    """

    kind: str
    file: str
    tensor: str | None
    what: str
    numbers: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """What one look at a checkpoint brought; `digests` is None when none were wanted or a part could not be
    read.
    """

    findings: list[Finding]
    digests: Digests | None


def verify(
    checkpoint: OpenedFiles,
    *,
    sha256: Mapping[Path, str] | None = None,
    recorded: Digests | None = None,
    on_progress: Progress | None = None,
) -> list[Finding]:
    """Everything that is wrong with a checkpoint; an empty list when nothing is.

    Args:
        checkpoint: an open one; it stays open.
        sha256: what the digests of some files should be, 64 hexadecimal digits each.
        recorded: digests from an earlier time, to be compared.
        on_progress: called with the bytes read and the bytes to read in all.
    """
    return examine(checkpoint, sha256=sha256, recorded=recorded, on_progress=on_progress).findings


def examine(
    checkpoint: OpenedFiles,
    *,
    sha256: Mapping[Path, str] | None = None,
    recorded: Digests | None = None,
    with_digests: bool = False,
    on_progress: Progress | None = None,
) -> Report:
    """`verify`, and the digests of the checkpoint as it is now when they are wanted."""
    sha256 = sha256 or {}
    stream = Stream(checkpoint, on_progress, total=sum(checkpoint.file_sizes) + _sizes(sha256))
    findings = list(_layout_findings(checkpoint))
    digests, found = _check_contents(checkpoint, stream, with_digests=with_digests or recorded is not None)
    findings += found
    if recorded is not None and digests is not None:
        findings += _changes(checkpoint, digests, recorded)
    for path, expected in sha256.items():
        findings += _sha256_findings(stream, path, expected.lower())
    return Report(findings, digests)


def _check_contents(
    checkpoint: OpenedFiles, stream: Stream, *, with_digests: bool
) -> tuple[Digests | None, list[Finding]]:
    """Read everything once. Digests are None when they are not wanted, or some part could not be read."""
    findings: list[Finding] = []
    tensors: dict[str, str] = {}
    for unit in checkpoint.units():
        hasher: Hasher = new_digest() if with_digests or unit.digest is not None else NoHash()
        try:
            findings += _unit_findings(checkpoint, stream, unit, hasher)
            tensors[unit.stretch.name] = hasher.hexdigest()
        except ApportionError as error:
            findings.append(_failure(checkpoint, unit.stretch, error))
    if not with_digests:
        return None, findings
    try:
        headers = {
            path.name: _header_digest(checkpoint, stream, i) for i, path in enumerate(checkpoint.files)
        }
        beside = {path.name: _file_digest(stream, path) for path in side_files(checkpoint)}
        return Digests(tensors, headers, beside), findings
    except ApportionError as error:
        return None, [*findings, Finding(error.code, checkpoint.files[0].name, None, str(error))]


def _unit_findings(checkpoint: OpenedFiles, stream: Stream, unit: Unit, hasher: Hasher) -> list[Finding]:
    findings: list[Finding] = []
    for piece in pieces_of(checkpoint, unit):
        findings += _number_findings(checkpoint, stream, piece, hasher)
    if unit.digest is not None and unit.digest != hasher.hexdigest():
        file = checkpoint.files[unit.stretch.file].name
        findings.append(Finding("changed", file, unit.stretch.name, "it is not what was packed"))
    return findings


def _number_findings(
    checkpoint: OpenedFiles, stream: Stream, tensor: TensorInfo, hasher: Hasher
) -> list[Finding]:
    bad, first, done = 0, -1, 0
    for chunk in stream.chunks(tensor):
        hasher.update(chunk.data)
        count, index = count_not_finite(tensor.format, chunk, PANEL_ROWS if tensor.interleaved else 1)
        if count and not bad:
            first = done + index
        bad += count
        done += chunk.size // tensor.format.block_nbytes
    if not bad:
        return []
    plain = tensor.format.block_size == 1
    what = (
        f"{bad} of {done} " + ("numbers are" if plain else "blocks have a scale that is") + " NaN or infinite"
    )
    numbers: dict[str, object] = {"count": bad, "first": first, "format": tensor.format.name}
    return [Finding("not_finite", checkpoint.files[tensor.file].name, tensor.name, what, numbers)]


def _header_digest(checkpoint: OpenedFiles, stream: Stream, file: int) -> str:
    hasher = new_digest()
    for gap in outside_tensors(checkpoint, file):
        for chunk in stream.chunks(gap):
            hasher.update(chunk.data)
    return hasher.hexdigest()


def _file_digest(stream: Stream, path: Path) -> str:
    hasher = new_digest()
    for piece in stream.file_pieces(path):
        hasher.update(piece.data)
    return hasher.hexdigest()


def _failure(checkpoint: OpenedFiles, tensor: TensorInfo, error: ApportionError) -> Finding:
    return Finding(error.code, checkpoint.files[tensor.file].name, tensor.name, str(error), error.numbers)


def _layout_findings(checkpoint: OpenedFiles) -> Iterator[Finding]:
    """What the readers may let pass, or what changed since the file was opened."""
    stretches = (unit.stretch for unit in checkpoint.units())
    tensors = sorted(stretches, key=lambda tensor: (tensor.file, tensor.offset, tensor.nbytes))
    for tensor in tensors:
        file = checkpoint.files[tensor.file].name
        if tensor.num_elements == 0:
            yield Finding(
                "no_elements", file, tensor.name, "the tensor has no elements", {"shape": tensor.shape}
            )
        if tensor.offset + tensor.nbytes > checkpoint.file_sizes[tensor.file]:
            yield Finding("out_of_range", file, tensor.name, "the tensor reaches past the end of the file")
    for before, after in pairwise(tensors):
        if before.file == after.file and before.offset + before.nbytes > after.offset:
            file = checkpoint.files[after.file].name
            yield Finding("overlap", file, after.name, f"the tensor overlaps {before.name}")


def _changes(checkpoint: OpenedFiles, now: Digests, then: Digests) -> Iterator[Finding]:
    stretches = (unit.stretch for unit in checkpoint.units())
    files = {stretch.name: checkpoint.files[stretch.file].name for stretch in stretches}
    model = checkpoint.files[0].name
    for name, kind, what in compare_names(now.tensors, then.tensors):
        yield Finding(kind, files.get(name, model), name, f"the tensor {what}")
    for name, kind, what in compare_names(now.headers, then.headers):
        yield Finding(kind, name, None, f"what lies outside the tensors (metadata, tensor table) {what}")
    for name, kind, what in compare_names(now.side_files, then.side_files):
        yield Finding(kind, name, None, f"the file {what}")


def compare_names(now: dict[str, str], then: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    """Name, kind of finding and words for everything that differs."""
    for name, digest in then.items():
        if name not in now:
            yield name, "missing", "was recorded and is not there"
        elif now[name] != digest:
            yield name, "changed", "is not what was recorded"
    for name in now.keys() - then.keys():
        yield name, "not_recorded", "was not there when the digests were recorded"


def _sha256_findings(stream: Stream, path: Path, expected: str) -> Iterator[Finding]:
    hasher = new_sha256()
    try:
        for piece in stream.file_pieces(path):
            hasher.update(piece.data)
    except ApportionError as error:
        yield Finding(error.code, path.name, None, str(error))
        return
    if hasher.hexdigest() != expected:
        numbers: dict[str, object] = {"expected": expected, "found": hasher.hexdigest()}
        yield Finding("sha256", path.name, None, "the file has another SHA-256 digest", numbers)


def _sizes(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths if path.is_file())
