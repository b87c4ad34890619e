"""What is on this machine: our own cache and the hub's, listed, described, and (only ours) removed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from apportion.core.errors import BadFile, NotFound, UsageError
from apportion.sources.aliases import ALIASES
from apportion.sources.hub_cache import (
    as_resolved,
    repositories,
    repository_folder,
    snapshot_files,
    snapshot_folder,
)
from apportion.sources.paths import SHARD
from apportion.sources.pick import choices
from apportion.sources.reference import HubReference, PackageReference, parse_reference, shown
from apportion.sources.resolved import ResolvedModel
from apportion.sources.select import CONFIG, Selection, is_complete, select_safetensors
from apportion.sources.store import SHA256, Manifest, ModelFile, Store


@dataclass(frozen=True, slots=True)
class CachedModel:
    """One model on this machine. `kept_by` is `apportion` or `hub`: whose cache it lies in."""

    name: str
    origin: str
    kind: str  # gguf or safetensors
    path: Path
    nbytes: int
    kept_by: str


def cached_models(store: Store | None = None) -> list[CachedModel]:
    """Everything that runs without a download, ours first. Reads names and sizes only."""
    return [*own_models(store or Store()), *hub_models()]


def own_models(store: Store) -> Iterator[CachedModel]:
    for package, manifest in store.packages():
        for model in choices((file.name, file.nbytes) for file in manifest.files):
            path = store.folder(package) / model.first
            yield CachedModel(alias_of(package), str(package), "gguf", path, model.nbytes, "apportion")


def alias_of(package: PackageReference) -> str:
    """The built-in short name of a package; else its own name."""
    rows = (name for name, a in ALIASES.items() if (a.package, a.version) == (package.name, package.version))
    return next(rows, package.name)


def hub_models() -> Iterator[CachedModel]:
    for reference in repositories():
        if snapshot := snapshot_folder(reference):
            yield from models_of_snapshot(reference, snapshot)


def models_of_snapshot(reference: HubReference, snapshot: Path) -> Iterator[CachedModel]:
    files = snapshot_files(snapshot)
    for model in choices(files.items()):
        if model.complete:
            found = as_resolved(reference, snapshot, Selection(model.names, model.first, model.quant))
            yield CachedModel(found.name, found.origin, "gguf", found.path, model.nbytes, "hub")
    try:
        selection = select_safetensors(files, reference.repo)
        whole = is_complete(snapshot, selection)
    except (NotFound, BadFile):
        return
    if whole:
        nbytes = sum(files[name] for name in selection.names)
        yield CachedModel(reference.repo, str(reference), "safetensors", snapshot, nbytes, "hub")


def model_files(model: ResolvedModel, *, hashed: bool = True) -> list[ModelFile]:
    """The files of a resolved model with size and sha256; digests are computed unless a cache knows them."""
    known = known_digests(model.path)
    return [
        ModelFile(
            path.name,
            path.stat().st_size,
            known.get(path.name) or blob_digest(path) or (sha256_of(path) if hashed else None),
        )
        for path in files_of(model.path)
    ]


def files_of(path: Path) -> list[Path]:
    """A GGUF file with its shards, or a folder's configuration, tokenizer and weights."""
    if path.is_dir():
        names = [p.name for p in path.iterdir() if p.is_file()]
        if CONFIG in names:
            return [path / name for name in select_safetensors(names, path.name).names]
        return []
    if (shard := SHARD.fullmatch(path.name)) and shard[4] == ".gguf":
        count = int(shard[3])
        parts = [path.with_name(f"{shard[1]}-{i:05d}-of-{shard[3]}.gguf") for i in range(1, count + 1)]
        return [part for part in parts if part.is_file()]
    return [path]


def known_digests(path: Path) -> dict[str, str]:
    """Digests that were checked when the model came into our cache."""
    store = Store()
    if not path.is_relative_to(store.root):
        return {}
    for package, manifest in store.packages():
        if store.folder(package) == path.parent:
            return digests(manifest)
    return {}


def digests(manifest: Manifest) -> dict[str, str]:
    return {file.name: file.sha256 for file in manifest.files if file.sha256}


def blob_digest(path: Path) -> str | None:
    """The hub's cache names large blobs by their sha256."""
    target = path.resolve()
    return target.name if target.parent.name == "blobs" and SHA256.fullmatch(target.name) else None


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_model(text: str) -> int:
    """Delete a package's model from our cache; returns the bytes freed.

    Raises:
        NotFound: it is not there.
        UsageError: it is not ours to delete: a path, or a repository in the hub's cache.
    """
    reference = parse_reference(text)
    if isinstance(reference, HubReference):
        raise UsageError(
            f"{reference} lies in the Hugging Face cache, which other programs use too",
            "apportion deletes only what it keeps itself",
            f"`hf cache rm model/{reference.repo}` deletes it, or remove {repository_folder(reference)}",
        )
    if not isinstance(reference, PackageReference):
        raise UsageError(
            f"`{shown(text)}` is not a model that apportion keeps",
            "a path is yours to delete",
            "`apportion models` lists what is kept",
        )
    store = Store()
    if not (store.folder(reference).exists() or store.staging(reference).exists()):
        raise NotFound(f"{shown(text)} is not in the model cache", hint="`apportion models` lists what is")
    return store.remove(reference)
