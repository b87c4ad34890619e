"""Which format a trace has, and its lines, plain or gzipped. Traces are untrusted like any other file."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from apportion.core.errors import BadFile, NotFound, UsageError
from apportion.simulate.serving.traces.trace import TracedRequest

MAX_LINE_NBYTES = 4 << 20
MOST_TOKENS = 1 << 24

FORMATS = ("azure", "mooncake", "servegen")


def read_trace(path: Path, *, seed: int = 0, start_s: float = 0.0) -> Iterator[TracedRequest]:
    """The requests of a trace in the order of their arrival, read as they are asked for.

    Args:
        path: a CSV file of the Azure traces, a JSONL file of the Mooncake traces (each plain or gzipped), or
            the folder of a ServeGen model.
        seed: of what ServeGen's clients leave to chance.
        start_s: begin that far into the trace, which then counts as 0.

    Raises:
        NotFound: there is no such path.
        UsageError: it is none of these.
        BadFile: a line breaks its format; raised when that line is reached.
    """
    if not path.exists():
        raise NotFound(f"there is no trace {path}")
    if path.is_dir():
        from apportion.simulate.serving.traces import servegen

        return servegen.read(path, seed, start_s)
    requests = _reader(path)(lines(path), path)
    return _from(requests, start_s) if start_s else requests


def _reader(path: Path) -> Callable[[Iterator[str], Path], Iterator[TracedRequest]]:
    from apportion.simulate.serving.traces import azure, mooncake

    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix == ".csv":
        return azure.read
    if suffix == ".jsonl":
        return mooncake.read
    raise UsageError(
        f"{path.name} is no trace that can be replayed",
        "its format is told by the name",
        "give a .csv of the Azure traces, a .jsonl of Mooncake (both may end in .gz), or a ServeGen folder",
    )


def _from(requests: Iterator[TracedRequest], start_s: float) -> Iterator[TracedRequest]:
    from dataclasses import replace

    for request in requests:
        if request.arrival_s >= start_s:
            yield replace(request, arrival_s=request.arrival_s - start_s)


def lines(path: Path) -> Iterator[str]:
    """The lines of a text file without their ends.

    Raises:
        BadFile: it is no text, its compression is broken, or a line is longer than any real one.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            reader = io.BufferedReader(file)
            while line := reader.readline(MAX_LINE_NBYTES + 1):
                if len(line) > MAX_LINE_NBYTES:
                    raise BadFile(f"a line of {path.name} is too long", limit_nbytes=MAX_LINE_NBYTES)
                yield line.decode().rstrip("\r\n")
    except (UnicodeDecodeError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BadFile(f"{path.name} cannot be read as text", str(error)) from error


def bad_line(path: Path, number: int, why: object) -> BadFile:
    """The error for line `number`, from 1."""
    return BadFile(f"line {number} of {path.name} is no request", str(why))


def count(value: object) -> int:
    """
    Raises:
        ValueError: it is no number of tokens.
    """
    number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else -1
    if not 0 <= number <= MOST_TOKENS:
        raise ValueError(f"{value!r} is no number of tokens")
    return number
