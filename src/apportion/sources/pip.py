"""Download one wheel through the user's own pip: their index, proxies, certificates and credentials apply.

pip runs as a program of its own; nothing of the package is installed, built or imported.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from apportion.core.errors import BadFile, NotFound, SourceError
from apportion.sources.reference import PackageReference, shown
from apportion.sources.resolved import Progress
from apportion.sources.store import tree_nbytes

STALL_LIMIT_S = 300.0  # without a byte or a line from pip
POLL_S = 0.2
SIZE = re.compile(r"Downloading \S+ \((\d+(?:\.\d+)?) (bytes|kB|MB|GB)\)")
UNITS = {"bytes": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}
MAX_OUTPUT = 1 << 20


def download_wheel(
    package: PackageReference,
    folder: Path,
    on_progress: Progress | None = None,
    stall_limit_s: float = STALL_LIMIT_S,
) -> Path:
    """The package's wheel, downloaded into the empty `folder`.

    Raises:
        NotFound: the index does not have that version.
        SourceError: pip is missing, failed, or stood still for `stall_limit_s`.
    """
    work = folder / "tmp"
    work.mkdir(parents=True)
    command = pip_command(package, folder)
    # pip keeps the growing file in its temporary folder: there its progress can be seen.
    environment = os.environ | {"TMPDIR": str(work), "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(
        command,
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as pip:
        output = Output(pip)
        try:
            follow(pip, output, folder, package, on_progress, stall_limit_s)
        finally:
            if pip.poll() is None:
                pip.kill()
            output.join()
    if pip.returncode != 0:
        raise failure(package, output.text())
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise SourceError(f"pip downloaded no wheel of {package.requirement}", last_lines(output.text()))
    return wheels[0]


def pip_command(package: PackageReference, folder: Path) -> list[str]:
    if importlib.util.find_spec("pip") is None:
        raise SourceError(
            "pip is not there",
            f"packages are downloaded through pip, and {sys.executable} has none",
            f"install it with `{Path(sys.executable).name} -m ensurepip`, or name a model file that you have",
        )
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--no-input",
        "--disable-pip-version-check",
    ]
    # -P: a folder called `pip` where the user happens to stand is not pip.
    return [
        sys.executable,
        "-P",
        "-m",
        "pip",
        "download",
        *options,
        "--dest",
        str(folder),
        package.requirement,
    ]


class Output:
    """What pip says, read as it comes."""

    def __init__(self, pip: subprocess.Popen[bytes]) -> None:
        self.data = bytearray()
        assert pip.stdout is not None
        self.stream = pip.stdout
        self.thread = threading.Thread(target=self.read, name="apportion-pip", daemon=True)
        self.thread.start()

    def read(self) -> None:
        while chunk := os.read(self.stream.fileno(), 4096):
            if len(self.data) < MAX_OUTPUT:
                self.data += chunk

    def join(self) -> None:
        self.thread.join()

    def text(self) -> str:
        return bytes(self.data).decode("utf-8", "replace")

    def announced_nbytes(self) -> int:
        """The download's size as pip rounds it; 0 before pip has said it."""
        found = SIZE.findall(self.text())
        return round(float(found[-1][0]) * UNITS[found[-1][1]]) if found else 0


def follow(
    pip: subprocess.Popen[bytes],
    output: Output,
    folder: Path,
    package: PackageReference,
    on_progress: Progress | None,
    stall_limit_s: float,
) -> None:
    """Report progress until pip ends."""
    seen, since = (-1, -1), time.monotonic()
    while True:
        try:
            pip.wait(POLL_S)
            return
        except subprocess.TimeoutExpired:
            now = (tree_nbytes(folder), len(output.data))
        if now != seen:
            seen, since = now, time.monotonic()
            total = output.announced_nbytes()
            if on_progress and total:
                on_progress(min(now[0], total), total)
        elif time.monotonic() - since > stall_limit_s:
            raise SourceError(
                f"the download of {package.requirement} stands still",
                last_lines(output.text()),
                "check the network and pull again",
                seconds=round(stall_limit_s),
            )


def failure(package: PackageReference, text: str) -> SourceError | NotFound | BadFile:
    """pip's failure in our words, with its own last ones as the reason."""
    why = last_lines(text)
    if "No matching distribution found" in text:
        if "Connection" in text or "Failed to establish" in text or "Temporary failure in name" in text:
            return SourceError(
                f"cannot reach the package index for {package.requirement}", why, "check the network"
            )
        return NotFound(
            f"the package index has no wheel of {package.requirement} for this Python",
            why,
            "check name and version",
        )
    if "DO NOT MATCH THE HASHES" in text or "hash mismatch" in text.lower():
        return BadFile(
            f"the downloaded {package.requirement} is not what the index announced", why, "pull again"
        )
    if "No space left on device" in text:
        return SourceError(f"the disk is full: cannot download {package.requirement}", why, "free some space")
    return SourceError(
        f"pip could not download {package.requirement}", why, "check the network and pip's settings"
    )


def last_lines(text: str, count: int = 3) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return shown(" / ".join(errors[-count:] or lines[-count:]), 400) or "pip said nothing"
