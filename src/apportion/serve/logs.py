"""The server's log: a line for each event, as JSON or to be read by people.

Lines are written by a thread of their own from a queue with an end, so a log that nobody reads, or that is
closed, never holds up the server. Nothing in a line ends the line, and paths of the machine are left out.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from apportion.core.streams import to_nowhere

LogFormat = Literal["text", "json"]
MOST_WAITING = 4096  # lines
MOST_LETTERS = 2000  # of a message
FLUSH_S = 2.0
PATH = re.compile(r"(?<![\w:/.>])~?/(?:[^\s/:'\"(),]+/)+[^\s/:'\"(),]*")
NAMES = ("apportion", "uvicorn")


class Lines(logging.Formatter):
    """A record as one line."""

    def __init__(self, form: LogFormat) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        fields: Mapping[str, Any] = getattr(record, "fields", {})
        event = without_paths(record.getMessage())[:MOST_LETTERS]
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        trace = self.formatException(record.exc_info) if record.exc_info else None
        if self._form == "json":
            whole = {"time": moment, "level": record.levelname.lower(), "event": event, **fields}
            return json.dumps({**whole, "trace": trace} if trace else whole, default=str)
        words = " ".join(f"{name}={written(value)}" for name, value in fields.items())
        line = f"{moment} {record.levelname.lower():7} {one_line(event)} {words}".rstrip()
        return f"{line} trace={written(trace)}" if trace else line


def written(value: object) -> str:
    """A field's value as one word."""
    text = str(value)
    return text if re.fullmatch(r"[\w.:{}/*+-]+", text, re.ASCII) else json.dumps(text)


def one_line(text: str) -> str:
    """The text with control characters, also those of terminals and of other lines' ends, written out."""
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)


def without_paths(text: str) -> str:
    return PATH.sub("<path>", text)


class Log(logging.Handler):
    """Takes records from all threads and never waits.

    Args:
        stream: None where the process has no stderr.

    Attributes:
        dropped: records that there was no room for.
    """

    def __init__(self, stream: TextIO | None, form: LogFormat) -> None:
        super().__init__()
        self.setFormatter(Lines(form))
        self.dropped = 0
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(MOST_WAITING)
        self._is_closing = False
        self._thread = threading.Thread(target=self._write_all, name="apportion-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if self._is_closing:
            return
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.dropped += 1
        except Exception:  # a record that cannot be told must not fail what it tells of
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, within a moment."""
        self._is_closing = True
        try:
            self._lines.put(None, timeout=FLUSH_S)
            self._thread.join(FLUSH_S)
        except queue.Full:
            pass
        super().close()

    def _write_all(self) -> None:
        told = 0
        while (line := self._lines.get()) is not None:
            self._write(line)
            if self.dropped > told and self._lines.empty():
                told = self.dropped
                self._write(
                    json.dumps({"level": "warning", "event": "log lines were dropped", "lines": told})
                )

    def _write(self, line: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(line.encode("ascii", "backslashreplace").decode() + "\n")
            self._stream.flush()
        except BrokenPipeError:
            to_nowhere(self._stream)
            self._stream = None
        except (OSError, ValueError):  # what nobody reads needs no writing
            self._stream = None


class Logging:
    """The log while the server runs; a `with` block restores what was before."""

    def __init__(self, form: LogFormat = "text", level: str = "info", stream: TextIO | None = None) -> None:
        self._form = form
        self._level = level.upper()
        self._stream = stream

    def __enter__(self) -> Log:
        self._log = Log(self._stream or sys.stderr, self._form)
        self._before = [(name, logging.getLogger(name)) for name in NAMES]
        self._levels = [(logger, logger.level, logger.propagate) for _, logger in self._before]
        for name, logger in self._before:
            logger.addHandler(self._log)
            logger.propagate = False
            logger.setLevel(self._level if name == "apportion" else "CRITICAL")
        return self._log

    def __exit__(self, *_: object) -> None:
        for logger, level, propagate in self._levels:
            logger.removeHandler(self._log)
            logger.setLevel(level)
            logger.propagate = propagate
        self._log.close()
