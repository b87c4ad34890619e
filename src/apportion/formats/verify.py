"""Checking a checkpoint: layout, numbers that are not finite, and digests. One pass, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from apportion.core.errors import ApportionError, UsageError
from apportion.formats.checkpoint import TensorInfo
from apportion.formats.digests import Digests, side_file_digests
from apportion.formats.opened import OpenedFiles
from apportion.formats.scales import count_not_finite
from apportion.formats.streaming import (
    Hasher,
    NoHash,
    Progress,
    Stream,
    new_digest,
    new_sha256,
    outside_tensors,
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


def verify(
    checkpoint: OpenedFiles,
    *,
    sha256: str | None = None,
    recorded: Digests | None = None,
    on_progress: Progress | None = None,
) -> list[Finding]:
    """Everything that is wrong with a checkpoint; an empty list when nothing is.

    Args:
        checkpoint: an open one; it stays open.
        sha256: what the digest of the model's only file should be, 64 hexadecimal digits.
        recorded: digests from an earlier time, to be compared.
        on_progress: called with the bytes read and the bytes to read in all.

    Raises:
        UsageError: `sha256` is given for a model of several files.
    """
    if sha256 is not None and len(checkpoint.files) > 1:
        raise UsageError(
            "--sha256 is for a model of one file",
            f"this one has {len(checkpoint.files)}",
            "record the digests of all files with --record, and verify against those",
        )
    passes = 1 if sha256 is None else 2
    stream = Stream(checkpoint, on_progress, total=passes * sum(checkpoint.file_sizes))
    findings = list(_layout_findings(checkpoint))
    digests, numbers = _check_contents(checkpoint, stream, with_digests=recorded is not None)
    findings += numbers
    if recorded is not None and digests is not None:
        findings += _changes(checkpoint, digests, recorded)
    if sha256 is not None:
        findings += _sha256_findings(checkpoint, stream, sha256.lower())
    return findings


def record(
    checkpoint: OpenedFiles, on_progress: Progress | None = None
) -> tuple[Digests | None, list[Finding]]:
    """The digests of a checkpoint as it is now, and what `verify` finds in it. No digests when a part of it
    could not be read.
    """
    stream = Stream(checkpoint, on_progress, total=sum(checkpoint.file_sizes))
    findings = list(_layout_findings(checkpoint))
    digests, numbers = _check_contents(checkpoint, stream, with_digests=True)
    return digests, findings + numbers


def _check_contents(
    checkpoint: OpenedFiles, stream: Stream, *, with_digests: bool
) -> tuple[Digests | None, list[Finding]]:
    """Read everything once. Digests are None when they are not wanted, or some part could not be read."""
    findings: list[Finding] = []
    tensors: dict[str, str] = {}
    for tensor in checkpoint.tensors.values():
        hasher: Hasher = new_digest() if with_digests else NoHash()
        try:
            findings += _number_findings(checkpoint, stream, tensor, hasher)
            tensors[tensor.name] = hasher.hexdigest()
        except ApportionError as error:
            findings.append(_failure(checkpoint, tensor, error))
    if not with_digests:
        return None, findings
    try:
        headers = {
            path.name: _header_digest(checkpoint, stream, i) for i, path in enumerate(checkpoint.files)
        }
        return Digests(tensors, headers, side_file_digests(checkpoint)), findings
    except ApportionError as error:
        return None, [*findings, Finding(error.code, checkpoint.files[0].name, None, str(error))]


def _number_findings(
    checkpoint: OpenedFiles, stream: Stream, tensor: TensorInfo, hasher: Hasher
) -> list[Finding]:
    bad, first, done = 0, -1, 0
    for chunk in stream.chunks(tensor):
        hasher.update(chunk.data)
        count, index = count_not_finite(tensor.format, chunk)
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


def _failure(checkpoint: OpenedFiles, tensor: TensorInfo, error: ApportionError) -> Finding:
    return Finding(error.code, checkpoint.files[tensor.file].name, tensor.name, str(error), error.numbers)


def _layout_findings(checkpoint: OpenedFiles) -> Iterator[Finding]:
    """What the readers may let pass, or what changed since the file was opened."""
    tensors = sorted(
        checkpoint.tensors.values(), key=lambda tensor: (tensor.file, tensor.offset, tensor.nbytes)
    )
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
    files = {name: checkpoint.files[tensor.file].name for name, tensor in checkpoint.tensors.items()}
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


def _sha256_findings(checkpoint: OpenedFiles, stream: Stream, expected: str) -> Iterator[Finding]:
    hasher = new_sha256()
    name = checkpoint.files[0].name
    try:
        for chunk in stream.chunks(checkpoint.whole_file(0)):
            hasher.update(chunk.data)
    except ApportionError as error:
        yield Finding(error.code, name, None, str(error))
        return
    if hasher.hexdigest() != expected:
        numbers: dict[str, object] = {"expected": expected, "found": hasher.hexdigest()}
        yield Finding("sha256", name, None, "the file has another SHA-256 digest", numbers)
