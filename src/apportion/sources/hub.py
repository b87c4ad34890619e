"""Models from the Hugging Face hub, through its own library and into its own cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from apportion.core.errors import BadFile, DiskFault, Offline, SourceError
from apportion.core.units import format_bytes
from apportion.sources.hub_cache import (
    as_resolved,
    find_cached,
    hub_is_offline,
    hub_root,
    repository_folder,
)
from apportion.sources.hub_failures import in_our_words
from apportion.sources.lock import exclusive
from apportion.sources.reference import HubReference, shown
from apportion.sources.resolved import Progress, ResolvedModel
from apportion.sources.select import check_repository_name, select
from apportion.sources.store import SHA256
from apportion.sources.watch import watched

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

DEFAULT_ENDPOINT = "https://huggingface.co"
TIMEOUT_S = 30.0
MAX_PLAIN_NBYTES = 50 * 10**9  # the hub serves larger files to its own library only
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository at one commit; `sha256` is known of large files."""

    name: str
    nbytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository's files at one commit."""

    commit: str
    files: dict[str, RemoteFile]


def resolve_repository(
    reference: HubReference,
    *,
    offline: bool = False,
    on_progress: Progress | None = None,
    refresh: bool = False,
) -> ResolvedModel:
    """The repository's model in the hub's cache, downloaded there first when it is not.

    Args:
        refresh: ask the hub whether there is a newer commit even if a whole model is here.

    Raises:
        Offline: it would have to be downloaded.
        NotFound: no such repository, or no model in it that we read.
        SourceError: the hub cannot be reached, refused, or failed.
        BadFile: what came is not what the hub announced.
        DiskFault: the cache cannot be written, or has no room.
    """
    offline = offline or hub_is_offline()
    cached = None if refresh and not offline else find_cached(reference)
    if cached is not None:
        return cached
    if offline:
        raise Offline(
            f"{reference} is not on this machine",
            f"{hub_root()} has no whole copy, and the network is not to be used",
            f"run `apportion pull {reference}` while you are online",
        )
    with in_our_words(reference):
        return download(reference, on_progress)


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def download(reference: HubReference, on_progress: Progress | None) -> ResolvedModel:
    """Bring the selected files into the cache, then move `main` to their commit."""
    listing = list_repository(reference)
    sizes = {name: file.nbytes for name, file in listing.files.items()}
    selection = select(sizes, reference.quant, reference.repo)
    folder = repository_folder(reference)
    snapshot = folder / "snapshots" / listing.commit
    missing = [listing.files[name] for name in selection.names if not (snapshot / name).exists()]
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    left = sum(file.nbytes - partial_nbytes(folder, file) for file in missing)
    check_room(folder, left)
    with watched(folder / "blobs", left, on_progress):
        for file in missing:
            fetch(reference, listing.commit, file)
    write_ref(folder, listing.commit)
    return as_resolved(reference, snapshot, selection)


def list_repository(reference: HubReference) -> Listing:
    """Commit and files of `main`."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint(), library_name="apportion")
    try:
        info = api.model_info(reference.repo, files_metadata=True, timeout=TIMEOUT_S)
        files = [as_remote_file(sibling, reference) for sibling in info.siblings or ()]
    except (TypeError, KeyError, AttributeError) as error:
        # The library builds its objects from whatever JSON came.
        raise SourceError(
            f"the hub's answer for {reference} is not usable", shown(str(error), 300), "check HF_ENDPOINT"
        ) from error
    return Listing(checked_commit(info.sha), {file.name: file for file in files})


def checked_commit(commit: str | None) -> str:
    if commit is None or len(commit) != 40 or not commit.isalnum() or not commit.isascii():
        raise BadFile("the hub named no commit", shown(str(commit)), "check HF_ENDPOINT")
    return commit


def as_remote_file(sibling: RepoSibling, reference: HubReference) -> RemoteFile:
    name = check_repository_name(sibling.rfilename, reference.repo)
    sha256 = sibling.lfs.sha256 if sibling.lfs else None
    nbytes = sibling.size or 0
    if (sha256 is not None and not SHA256.fullmatch(sha256)) or nbytes < 0:
        raise BadFile(f"the hub's entry for {shown(name)} in {reference.repo} is malformed")
    return RemoteFile(name, nbytes, sha256)


def partial_path(folder: Path, sha256: str) -> Path:
    """Where a download grows; the name under which older hub libraries resume, too."""
    return folder / "blobs" / f"{sha256}.incomplete"


def partial_nbytes(folder: Path, file: RemoteFile) -> int:
    path = partial_path(folder, file.sha256) if file.sha256 else None
    return min(path.stat().st_size, file.nbytes) if path and path.exists() else 0


def fetch(reference: HubReference, commit: str, file: RemoteFile) -> None:
    """One file into the cache: large ones by ourselves, resumed and checked; the library does the rest."""
    from huggingface_hub import hf_hub_download

    with quiet():
        if file.sha256 and file.nbytes <= MAX_PLAIN_NBYTES:
            fetch_blob(reference, commit, file, file.sha256)
        hf_hub_download(
            reference.repo,
            file.name,
            revision=commit,
            cache_dir=hub_root(),
            endpoint=endpoint(),
            library_name="apportion",
        )


@contextmanager
def quiet() -> Iterator[None]:
    """The library shows no bars inside the block: progress is ours to show."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    bars = not are_progress_bars_disabled()
    disable_progress_bars()
    try:
        yield
    finally:
        if bars:
            enable_progress_bars()


def fetch_blob(reference: HubReference, commit: str, file: RemoteFile, sha256: str) -> None:
    """Download a blob by plain ranged HTTP, from where an earlier try ended.

    The library itself starts anew after a killed process and does not compare the digest.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    folder = repository_folder(reference)
    blob = folder / "blobs" / sha256
    with exclusive(hub_root() / ".locks" / folder.name / f"{sha256}.apportion.lock"):
        if blob.exists():
            return
        partial = partial_path(folder, sha256)
        with partial.open("ab") as stream:
            if stream.tell() > file.nbytes:
                stream.truncate(0)
            stream.seek(0, os.SEEK_END)
            http_get(
                hf_hub_url(reference.repo, file.name, revision=commit, endpoint=endpoint()),
                stream,
                resume_size=stream.tell(),
                headers=build_hf_headers(library_name="apportion"),
                expected_size=file.nbytes,
            )
            stream.flush()
            os.fsync(stream.fileno())
        check_digest(partial, file, sha256)
        partial.rename(blob)


def check_digest(partial: Path, file: RemoteFile, sha256: str) -> None:
    with partial.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        partial.unlink()
        raise BadFile(
            f"{shown(file.name)} is not the file that the hub announced",
            "its sha256 differs; the download was discarded",
            "pull it again",
            sha256=found,
            expected=sha256,
        )


def check_room(folder: Path, nbytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise DiskFault(
            f"the disk has no room for the model in {folder.parent}",
            hint="free some space, choose a smaller quantization, or point HF_HUB_CACHE at another disk",
            needed=format_bytes(nbytes),
            free=format_bytes(free),
        )


def write_ref(folder: Path, commit: str) -> None:
    """Only now, with every file there, does `main` mean this commit."""
    ref = folder / "refs" / "main"
    ref.parent.mkdir(parents=True, exist_ok=True)
    fresh = ref.with_name(f"main.{os.getpid()}.tmp")
    fresh.write_text(commit, encoding="ascii")
    fresh.replace(ref)
