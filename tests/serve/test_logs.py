"""Lines of the log: one for each event, whatever is in it, and never a hindrance."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from apportion.serve.logs import MOST_WAITING, Log, LogFormat, Logging


def logged(form: LogFormat, message: str, **fields: Any) -> str:
    stream = io.StringIO()
    with Logging(form, "info", stream):
        logging.getLogger("apportion.test").info(message, extra={"fields": fields})
    return stream.getvalue()


NASTY = [
    "two\nlines",
    "carriage\rreturn",
    "\x1b[31mred\x1b[0m",
    "bell\x07",
    "nul\x00",
    "line\u2028separator",
    "next\x85line",
    "right\u202eto left",
    "\udc80 surrogate",
    'quote " and \\',
    "tab\t",
    "fake\n2026-01-01 error   request status=200",
]


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize("form", ["text", "json"])
def test_nothing_in_an_event_makes_a_second_line_or_moves_a_terminal(form: LogFormat, nasty: str) -> None:
    for written in (logged(form, nasty), logged(form, "event", field=nasty)):
        assert written.endswith("\n")
        assert len(written.splitlines()) == 1
        assert written[:-1].isprintable()
        assert written.isascii()
        if form == "json":
            assert nasty in json.loads(written).values()


def test_a_line_of_json_has_time_level_and_fields() -> None:
    line = json.loads(logged("json", "request", status=200, route="/v1/models", seconds=0.5))
    assert line["event"] == "request"
    assert line["level"] == "info"
    assert (line["status"], line["route"], line["seconds"]) == (200, "/v1/models", 0.5)
    assert line["time"].endswith("+00:00")


@pytest.mark.parametrize(
    "path",
    [
        "/opt/me/models/x.gguf",
        "/srv/data/",
        "~/models/x.gguf",
        "/a/b",
        "'/opt/me/x y/z'",
        "(/var/lib/kv/1)",
    ],
)
def test_paths_of_the_machine_are_left_out(path: str) -> None:
    written = logged("text", f"cannot read {path}: no space left")
    assert not any(part in written for part in ("/opt", "/srv", "models", "/a/b", "/var"))
    assert "cannot read" in written


def test_addresses_of_servers_are_no_paths() -> None:
    assert "http://127.0.0.1:8080/v1" in logged("text", "listening at http://127.0.0.1:8080/v1")


def test_a_closed_pipe_does_no_harm() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    with Logging("text", "info", stream):
        for _ in range(100):
            logging.getLogger("apportion.test").info("event")
    stream.write("what anybody else says")
    stream.close()  # with what it still held: the interpreter's end flushes streams, too


def test_a_pipe_that_nobody_reads_holds_up_nobody() -> None:
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w")
    log = Log(stream, "text")
    began = time.monotonic()
    for number in range(MOST_WAITING + 5000):
        log.emit(logging.LogRecord("apportion", logging.INFO, "", 0, f"{number} " + "x" * 500, None, None))
    assert time.monotonic() - began < 5
    assert log.dropped > 0
    drain = threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(reading, 65536), b"")])
    drain.start()
    log.close()
    stream.close()
    drain.join(5)
    os.close(reading)


def test_a_record_that_cannot_be_told_fails_nobody() -> None:
    stream = io.StringIO()
    with Logging("text", "info", stream) as log:
        logging.getLogger("apportion.test").info("%d numbers", "no")
        logging.getLogger("apportion.test").info("after it")
    assert "after it" in stream.getvalue()
    assert log.dropped == 1


def test_without_a_stderr_there_is_no_log_and_no_harm(tmp_path: Path) -> None:
    log = Log(None, "text")
    log.emit(logging.LogRecord("apportion", logging.INFO, "", 0, "event", None, None))
    log.close()


def test_what_was_before_is_restored() -> None:
    logger = logging.getLogger("apportion")
    before = (logger.level, logger.propagate, list(logger.handlers))
    with Logging("text", "error", io.StringIO()):
        assert logger.level == logging.ERROR
    assert (logger.level, logger.propagate, list(logger.handlers)) == before


def test_the_level_says_what_is_logged() -> None:
    stream = io.StringIO()
    with Logging("text", "warning", stream):
        logging.getLogger("apportion.requests").info("request")
        logging.getLogger("apportion.serve").warning("worth a line")
    assert "request" not in stream.getvalue()
    assert "worth a line" in stream.getvalue()
