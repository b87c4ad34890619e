"""The Hugging Face hub's cache, read in place. Needs neither the hub's library nor a network.

<root>/models--org--name/refs/main             the commit that `main` was at
                         snapshots/<commit>/   links to blobs, under the repository's file names
                         blobs/<etag>          for large files the etag is their sha256
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from apportion.core.errors import BadFile, NotFound, UsageError
from apportion.sources.reference import HubReference, parse_reference
from apportion.sources.resolved import ResolvedModel
from apportion.sources.select import Selection, is_complete, select

COMMIT = re.compile(r"[0-9a-f]{40}")
MAX_FILES = 10_000
TRUE = {"1", "ON", "YES", "TRUE"}


def hub_root() -> Path:
    """The hub's cache folder, as its library finds it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if chosen := os.environ.get(variable):
            return expanded(chosen)
    if home := os.environ.get("HF_HOME"):
        return expanded(home) / "hub"
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(caches) / "huggingface" / "hub"


def expanded(text: str) -> Path:
    return Path(os.path.expanduser(os.path.expandvars(text))).absolute()


def hub_is_offline() -> bool:
    """Whether the hub's own variables forbid the network."""
    text = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return text.upper() in TRUE


def repository_folder(reference: HubReference) -> Path:
    return hub_root() / f"models--{reference.org}--{reference.name}"


def snapshot_folder(reference: HubReference) -> Path | None:
    """The snapshot that `main` points to."""
    folder = repository_folder(reference)
    try:
        commit = (folder / "refs" / "main").read_text(encoding="ascii")[:41].strip()
    except (OSError, ValueError):
        return None
    snapshot = folder / "snapshots" / commit
    return snapshot if COMMIT.fullmatch(commit) and snapshot.is_dir() else None


def snapshot_files(snapshot: Path) -> dict[str, int]:
    """Name -> bytes of the files that are really there and lie inside the cache."""
    root = hub_root().resolve()
    found: dict[str, int] = {}
    for where, _, names in os.walk(snapshot):
        for name in names:
            path = Path(where, name)
            if len(found) < MAX_FILES and path.is_file() and path.resolve().is_relative_to(root):
                found[path.relative_to(snapshot).as_posix()] = path.stat().st_size
    return found


def find_cached(reference: HubReference) -> ResolvedModel | None:
    """The model if a whole one is in the cache; never looks elsewhere.

    Raises:
        UsageError: the snapshot holds several models of that quantization.
    """
    snapshot = snapshot_folder(reference)
    if snapshot is None:
        return None
    try:
        selection = select(snapshot_files(snapshot), reference.quant, reference.repo)
        whole = selection.entry is not None or is_complete(snapshot, selection)
    except (NotFound, BadFile, OSError):
        return None
    return as_resolved(reference, snapshot, selection) if whole else None


def as_resolved(reference: HubReference, snapshot: Path, selection: Selection) -> ResolvedModel:
    path = snapshot / selection.entry if selection.entry else snapshot
    exact = HubReference(reference.org, reference.name, selection.quant or None)
    return ResolvedModel(path, str(exact).removeprefix("hf:"), str(exact))


def repositories() -> Iterator[HubReference]:
    """All model repositories in the cache, by name."""
    for folder in sorted(hub_root().glob("models--*--*")):
        _, org, name = folder.name.split("--", 2)
        try:
            reference = parse_reference(f"hf:{org}/{name}")
        except UsageError:
            continue
        if isinstance(reference, HubReference):
            yield reference
