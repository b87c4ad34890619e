"""A wheel opened as the untrusted archive that it is: looked at under limits, only its model read out."""

from __future__ import annotations

import base64
import csv
import errno
import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Protocol

from apportion.core.errors import BadFile, LimitExceeded, Truncated, UsageError
from apportion.sources.reference import PackageReference, parse_package, shown
from apportion.sources.store import FILE_NAME, SHA256

MAX_MEMBERS = 10_000
MAX_DIRECTORY_NBYTES = 4 << 20
MAX_TEXT_NBYTES = 4 << 20
MAX_RATIO = 100  # model weights hardly compress; a bomb of zeros does by 1000
FREE_RATIO_NBYTES = 1 << 20  # too small to be a bomb
CHUNK = 1 << 20
DAMAGE = (
    zipfile.BadZipFile,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    struct.error,
    zlib.error,
)

PART = re.compile(r"(.+\.gguf)\.part-?(\d{1,4})")
REQUIRES = re.compile(r"Requires-Dist:\s*([A-Za-z0-9._-]+)\s*\(?==\s*([^\s;,()]+)\)?\s*")


class Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


class Wheel:
    """The members of a wheel, checked when it is opened; a context manager.

    Raises:
        BadFile: not a zip archive, or names that would lead elsewhere.
        LimitExceeded: too many members, or a member that unpacks to suspiciously much.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        check_directory_size(path)
        try:
            self.archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
            raise BadFile(f"{path.name} is no wheel", str(error), "pull it again") from error
        try:
            self.members = checked_members(path, self.archive.infolist())
        except BaseException:
            self.archive.close()
            raise

    def __enter__(self) -> Wheel:
        return self

    def __exit__(self, *_: object) -> None:
        self.archive.close()

    def ggufs(self) -> list[zipfile.ZipInfo]:
        """The whole GGUF files inside, by name."""
        return [info for name, info in sorted(self.members.items()) if name.lower().endswith(".gguf")]

    def parts(self) -> dict[str, dict[int, zipfile.ZipInfo]]:
        """Pieces of GGUF files: base name of the whole -> part number -> member."""
        found: dict[str, dict[int, zipfile.ZipInfo]] = {}
        for name, info in self.members.items():
            if match := PART.fullmatch(PurePosixPath(name).name):
                pieces = found.setdefault(match[1], {})
                if int(match[2]) in pieces:
                    raise BadFile(f"{self.path.name} holds part {match[2]} of {shown(match[1])} twice")
                pieces[int(match[2])] = info
        return found

    def required(self) -> list[PackageReference]:
        """The pinned packages that it needs (`Requires-Dist: name==version`, no conditions)."""
        found = []
        for line in self.text_of(".dist-info/METADATA").partition("\n\n")[0].splitlines():
            if match := REQUIRES.fullmatch(line.strip()):
                try:
                    found.append(parse_package(f"pypi:{match[1]}=={match[2]}", f"{match[1]}=={match[2]}"))
                except UsageError:
                    continue
        return found

    def digests(self) -> dict[str, tuple[str, str]]:
        """Base name -> (sha256, which file says so): from RECORD, and SHA256SUMS where there is one."""
        found = {}
        for row in csv.reader(io.StringIO(self.text_of(".dist-info/RECORD"))):
            if len(row) == 3 and row[1].startswith("sha256="):
                found[PurePosixPath(row[0]).name] = (hex_digest(row[1].removeprefix("sha256=")), "RECORD")
        for line in self.text_of("SHA256SUMS").splitlines():
            digest, _, name = line.strip().partition(" ")
            if SHA256.fullmatch(digest.lower()):
                found[PurePosixPath(name.strip().lstrip("*")).name] = (digest.lower(), "SHA256SUMS")
        return {name: entry for name, entry in found.items() if SHA256.fullmatch(entry[0])}

    def text_of(self, ending: str) -> str:
        """The first member whose name ends so, as text; empty when there is none."""
        for name, info in self.members.items():
            if name.endswith(ending):
                if info.file_size > MAX_TEXT_NBYTES:
                    raise LimitExceeded(
                        f"{shown(name)} is too large", nbytes=info.file_size, limit=MAX_TEXT_NBYTES
                    )
                buffer = io.BytesIO()
                self.copy(info, buffer)
                return buffer.getvalue().decode("utf-8", "replace").replace("\r\n", "\n")
        return ""

    def copy(
        self, info: zipfile.ZipInfo, *sinks: Sink, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        """Stream a member into `sinks`; never more than its declared size.

        Raises:
            BadFile, Truncated: the archive's checksum, size or compressed data are wrong.
        """
        done = 0
        for chunk in self.chunks(info):
            done += len(chunk)
            if done > info.file_size:
                break
            for sink in sinks:
                sink.write(chunk)
            if on_bytes:
                on_bytes(len(chunk))
        if done != info.file_size:
            raise Truncated(
                f"{shown(info.filename)} in {self.path.name} is cut off", got=done, declared=info.file_size
            )

    def chunks(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        """A member's bytes; the archive's faults as ours, whatever class they have in the library."""
        try:
            with self.archive.open(info) as member:
                while chunk := member.read(CHUNK):
                    yield chunk
        except DAMAGE as error:
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise  # the disk failed; seeking to a nonsense offset is EINVAL
            raise BadFile(
                f"{shown(info.filename)} in {self.path.name} is damaged", str(error), "pull it again"
            ) from error


def check_directory_size(path: Path) -> None:
    """Refuse a huge central directory before it is read into memory.

    Format: PKWARE APPNOTE 6.3.10, sections 4.3.14 to 4.3.16.
    """
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - 65_557))
        tail = file.read()
    end = tail.rfind(b"PK\5\6")
    if end < 0 or len(tail) - end < 22:
        raise BadFile(f"{path.name} is no wheel", "it has no zip directory", "pull it again")
    nbytes = int.from_bytes(tail[end + 12 : end + 16], "little")
    if tail.rfind(b"PK\6\7", 0, end) >= 0 or nbytes == 0xFFFFFFFF:
        raise LimitExceeded(f"{path.name} is a zip64 archive", "no package index carries wheels that large")
    if nbytes > MAX_DIRECTORY_NBYTES:
        raise LimitExceeded(
            f"{path.name} lists too many files", directory_nbytes=nbytes, limit=MAX_DIRECTORY_NBYTES
        )


def checked_members(path: Path, infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Name -> member, of all regular files."""
    if len(infos) > MAX_MEMBERS:
        raise LimitExceeded(f"{path.name} holds too many files", files=len(infos), limit=MAX_MEMBERS)
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        if reason := what_is_wrong(info):
            raise BadFile(f"{path.name} is not safe to open", f"{shown(info.filename)} {reason}")
        if info.is_dir():
            continue
        if info.filename in members:
            raise BadFile(f"{path.name} is not safe to open", f"{shown(info.filename)} is in it twice")
        if info.file_size > max(MAX_RATIO * info.compress_size, FREE_RATIO_NBYTES):
            raise LimitExceeded(
                f"{shown(info.filename)} in {path.name} unpacks to suspiciously much",
                packed=info.compress_size,
                unpacked=info.file_size,
                ratio_limit=MAX_RATIO,
            )
        members[info.filename] = info
    return members


def what_is_wrong(info: zipfile.ZipInfo) -> str:
    """Why a member's name or kind cannot be trusted; empty when nothing is wrong."""
    name = info.orig_filename
    if "\0" in name or "\\" in name:
        return "has a name with foreign characters"
    if name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/"):
        return "has a name that leads out of the archive"
    if info.flag_bits & 1:
        return "is encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in a way that wheels are not"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return ""


def safe_base_name(info: zipfile.ZipInfo) -> str:
    """The name under which a member is stored.

    Raises:
        BadFile: its last part is no plain file name.
    """
    name = PurePosixPath(info.filename).name
    if not FILE_NAME.fullmatch(name):
        raise BadFile(f"cannot store {shown(info.filename)}", "its name is no plain file name")
    return name


def hex_digest(text: str) -> str:
    """RECORD writes digests as unpadded url-safe base64; empty when it is none."""
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()
    except ValueError:
        return ""
