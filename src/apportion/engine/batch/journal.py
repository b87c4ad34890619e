"""The file of answers: whole lines are appended and made safe; what a crash broke off is dropped."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from apportion.core.disk import Disk, DiskFile, RealDisk, fault, write_all
from apportion.core.errors import BadFile, LimitExceeded, UsageError

COPY_NBYTES = 1 << 20
MAX_LINE_NBYTES = 256 << 20
SUFFIX = ".repaired"


class Journal:
    """Answers by the ids of their requests, in a file of one JSON object a line.

    What `append` was given survives the end of this process, however it ends; after `sync` also that of the
    machine. A line that a crash broke off is dropped when the file is opened again.

    Args:
        path: made where there is none.

    Raises:
        BadFile: the file holds something else.
        UsageError: another process appends to it.
        DiskFault: it cannot be read or written.
    """

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self.path = path
        self.model: str | None = None
        self._disk = disk or RealDisk()
        self._ids: set[str] = set()
        self._file = self._opened()
        try:
            self._end = self._read()
        except BaseException:
            self._file.close()
            raise

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def append(self, line: dict[str, Any]) -> None:
        """Add an answer.

        Raises:
            DiskFault: it could not be written; the file may end in a part of it, and is not to be used again.
        """
        data = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
        write_all(self._file, data, self._end)
        self._end += len(data)
        self._ids.add(line["id"])

    def sync(self) -> None:
        """Return when all answers would survive a power cut."""
        self._file.fdatasync()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> DiskFile:
        folder = self.path.parent
        if self.path.name not in self._disk.listdir(folder):
            self._disk.open(self.path, "create").close()
            self._disk.sync_folder(folder)
        return self._disk.open(self.path, "write")

    def _read(self) -> int:
        """Learn what is there; the file's end, after dropping what is broken."""
        end, broken, good = 0, 0, 0
        for line, whole in lines_of(self._file):
            answer = parsed(line) if whole else None
            broken += answer is None
            if answer is not None:
                good += 1
                self._take_in(answer)
            end += len(line)
        if not broken:
            return end
        if not good and broken > 1:
            raise BadFile(
                f"{self.path.name} is no file of answers",
                "none of its lines is one",
                "name another file; this one was left as it is",
            )
        return self._repair()

    def _take_in(self, answer: dict[str, Any]) -> None:
        self._ids.add(answer["id"])
        body = (answer.get("response") or {}).get("body") or {}
        if self.model is None and isinstance(body.get("model"), str):
            self.model = body["model"]

    def _repair(self) -> int:
        """Put a file of the whole lines alone in the place of this one."""
        repaired, end = self.path.with_name(self.path.name + SUFFIX), 0
        with self._disk.open(repaired, "create") as copy:
            for line, whole in lines_of(self._file):
                if whole and parsed(line) is not None:
                    write_all(copy, line, end)
                    end += len(line)
            copy.fdatasync()
        self._file.close()
        self._disk.rename(repaired, self.path)
        self._disk.sync_folder(self.path.parent)
        self._file = self._disk.open(self.path, "write")
        return end


def lines_of(file: DiskFile) -> Iterator[tuple[bytes, bool]]:
    """The lines of a file with their ends, and whether they have one."""
    rest, offset = b"", 0
    while data := file.pread(COPY_NBYTES, offset):
        offset += len(data)
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > MAX_LINE_NBYTES:
            raise LimitExceeded(f"a line of {file.path.name} is too long", limit=MAX_LINE_NBYTES)
        yield from ((line + b"\n", True) for line in lines)
    if rest:
        yield rest, False


def parsed(line: bytes) -> dict[str, Any] | None:
    """The answer that a line holds; None where it is none."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_answer = isinstance(answer, dict) and isinstance(answer.get("id"), str) and "custom_id" in answer
    return answer if is_answer else None


class Lock:
    """Held while this process appends to a file; the kernel lets go of it when the process ends.

    Raises:
        UsageError: another process holds it.
        DiskFault: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: list[int] = []
        self.follow()

    def follow(self) -> None:
        """Hold the file that has the name now, too, where another one took its place."""
        try:
            self._held.append(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
        except OSError as error:
            raise fault("open", self._path, error.errno or 0) from error
        if len({os.fstat(descriptor).st_ino for descriptor in self._held}) < len(self._held):
            os.close(self._held.pop())
            return
        try:
            fcntl.flock(self._held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise UsageError(
                f"{self._path.name} is being written to",
                "another process appends answers to it",
                "wait for it to end, or name another file",
            ) from None

    def close(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
