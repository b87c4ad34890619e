"""What hangs is named."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from pathlib import Path

import pytest

from apportion.serve.notify import notify
from apportion.serve.watchdog import Watchdog


def test_a_step_that_hangs_is_named_with_its_requests(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        began = time.monotonic() - 50
        dog = Watchdog(10, lambda: began, lambda: ["req_a", "req_b"], look_s=0.01)
        dog.start()
        await asyncio.sleep(0.2)
        dog.stop()

    with caplog.at_level(logging.WARNING, "apportion.serve"):
        asyncio.run(story())
    [line] = [record for record in caplog.records if record.getMessage() == "a step takes long"]
    assert line.fields["requests"] == "req_a,req_b"  # type: ignore[attr-defined]
    assert line.fields["seconds"] >= 50  # type: ignore[attr-defined]


def test_an_event_loop_that_is_held_up_is_named_with_what_holds_it(caplog: pytest.LogCaptureFixture) -> None:
    def culprit() -> None:
        time.sleep(0.3)

    async def story() -> None:
        dog = Watchdog(0.1, lambda: None, list, look_s=0.01)
        dog.start()
        await asyncio.sleep(0.05)
        culprit()
        dog.stop()

    with caplog.at_level(logging.WARNING, "apportion.serve"):
        asyncio.run(story())
    told = [record for record in caplog.records if record.getMessage() == "the event loop is held up"]
    assert told
    assert "culprit" in told[0].fields["in"]  # type: ignore[attr-defined]


def test_where_all_is_well_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        dog = Watchdog(5, time.monotonic, list, look_s=0.01)
        dog.start()
        await asyncio.sleep(0.1)
        dog.stop()

    with caplog.at_level(logging.WARNING, "apportion.serve"):
        asyncio.run(story())
    assert not caplog.records


def test_whoever_started_the_server_is_told_how_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # paths of sockets are short
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "n"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "n"))
        assert notify("READY=1", "STATUS=serving")
        assert heard.recv(100) == b"READY=1\nSTATUS=serving"
    assert not notify("READY=1"), "who does not listen any more is not waited for"


@pytest.mark.parametrize("address", ["", "relative", "/no/such/socket", "@no-such-name", "/" + "x" * 300])
def test_where_nobody_listens_nothing_happens(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not notify("READY=1")
