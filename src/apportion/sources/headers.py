"""Headers of models, also of those that are still on the hub: read from there by ranges, nothing downloaded.

A file of a repository is stood in for by an empty one of its size, which takes no room on the disk, and is
filled with what its reader asks for, in ranges that grow.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from apportion.core.disk import OpenMode, RealDisk, RealFile, faults
from apportion.core.errors import SourceError
from apportion.core.settings import OFFLINE, get
from apportion.sources.hub_cache import as_resolved, find_cached, hub_is_offline
from apportion.sources.hub_failures import in_our_words
from apportion.sources.reference import HubReference, parse_reference, shown
from apportion.sources.resolve import resolve
from apportion.sources.resolved import Progress, ResolvedModel
from apportion.sources.select import select

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from apportion.formats.opened import OpenedFiles
    from apportion.sources.hub import Listing, RemoteFile

FIRST_NBYTES = 256 << 10  # of a file; the header of a model with a large vocabulary has some MiB
MOST_NBYTES = 8 << 20


@contextmanager
def open_headers(
    reference: str, *, offline: bool = False, on_progress: Progress | None = None
) -> Iterator[tuple[ResolvedModel, OpenedFiles]]:
    """A model and its headers, open inside the block. What is on the hub stays there, and its path is gone
    after the block; a package is obtained first.

    Raises:
        UsageError, NotFound, Offline, SourceError, DiskFault: as `sources.resolve`.
        BadFile, Truncated, Unsupported, LimitExceeded: as `formats.open_checkpoint`.
    """
    from apportion.formats import open_checkpoint  # brings NumPy

    named = parse_reference(reference)
    offline = offline or get(OFFLINE) or hub_is_offline()
    if not isinstance(named, HubReference) or offline or find_cached(named) is not None:
        found = resolve(reference, offline=offline, on_progress=on_progress)
        with open_checkpoint(found.path) as checkpoint:
            yield found, checkpoint
        return
    with TemporaryDirectory(prefix="apportion-headers-") as folder:
        found, disk = _stand_ins(named, Path(folder))
        with open_checkpoint(found.path, disk) as checkpoint:
            yield found, checkpoint


def _stand_ins(reference: HubReference, folder: Path) -> tuple[ResolvedModel, HubDisk]:
    """The model that a reference means, as stand-ins in `folder`, and the disk that fills them."""
    from apportion.sources.hub import list_repository

    with in_our_words(reference):
        listing = list_repository(reference)
    sizes = {name: file.nbytes for name, file in listing.files.items()}
    selection = select(sizes, reference.quant, reference.repo)
    for name in selection.names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with faults("create", path), path.open("wb") as stream:
            stream.truncate(sizes[name])
    return as_resolved(reference, folder, selection), HubDisk(reference, listing, folder)


class HubDisk(RealDisk):
    """The machine's file system, but that files in `folder` are read from a repository.

    Args:
        listing: of the repository.
    """

    def __init__(self, reference: HubReference, listing: Listing, folder: Path) -> None:
        self._reference = reference
        self._listing = listing
        self._folder = folder

    def open(self, path: str | Path, mode: OpenMode = "read") -> RealFile:
        path = Path(path)
        if not path.is_relative_to(self._folder) or not path.is_file():
            return super().open(path, mode)
        remote = self._listing.files[path.relative_to(self._folder).as_posix()]
        with faults("open", path):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        return HubFile(path, descriptor, self._reference, self._listing.commit, remote)


class HubFile(RealFile):
    """A stand-in that fetches what is read of it, once. Reads go on from where the last one ended, mostly."""

    def __init__(
        self, path: Path, descriptor: int, reference: HubReference, commit: str, remote: RemoteFile
    ) -> None:
        super().__init__(path, descriptor)
        self._reference = reference
        self._commit = commit
        self._remote = remote
        self._step = FIRST_NBYTES
        self._have: list[tuple[int, int]] = []  # stretches that were fetched, from where to where

    def pread(self, nbytes: int, offset: int) -> bytes:
        self._need(offset, offset + nbytes)
        return super().pread(nbytes, offset)

    def pread_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        self._need(offset, offset + memoryview(buffer).nbytes)
        return super().pread_into(buffer, offset)

    def _need(self, start: int, stop: int) -> None:
        """Have the bytes from `start` to `stop`, as far as the file goes."""
        stop = min(stop, self._remote.nbytes)
        while start < stop:
            there = [end for begin, end in self._have if begin <= start < end]
            if there:
                start = max(there)
                continue
            end = min(max(stop, start + self._step), self._remote.nbytes)
            self.pwrite(fetch_range(self._reference, self._commit, self._remote, start, end), start)
            self._have.append((start, end))
            self._step = min(2 * self._step, MOST_NBYTES)


class Bounded(io.BytesIO):
    """Bytes in memory that refuse to become more than was asked for: a server may ignore ranges."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def write(self, data: ReadableBuffer) -> int:
        if self.tell() + memoryview(data).nbytes > self._limit:
            raise SourceError(
                "the hub sends more than it was asked for",
                "it seems to know no ranges",
                "download the model first with: apportion pull",
            )
        return super().write(data)


def fetch_range(reference: HubReference, commit: str, file: RemoteFile, start: int, stop: int) -> bytes:
    """Bytes `start` to `stop` of a file at a commit.

    Raises:
        SourceError: the hub cannot be reached, failed, or sent something else.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    from apportion.sources.hub import endpoint, quiet

    received = Bounded(stop - start)
    headers = {**build_hf_headers(library_name="apportion"), "Range": f"bytes={start}-{stop - 1}"}
    with in_our_words(reference), quiet():
        http_get(
            hf_hub_url(reference.repo, file.name, revision=commit, endpoint=endpoint()),
            received,
            headers=headers,
            expected_size=stop - start,
            displayed_filename=shown(file.name),
        )
    return received.getvalue()
