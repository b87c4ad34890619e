from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from tests.serve.running import Running, config_for, running
from tests.serve.streaming import streaming

from apportion.cli import ps
from apportion.serve.schemas.status import Status

Apportion = Callable[..., Any]
KEY = "key-of-somebody-who-asks"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with streaming(tmp_path_factory.mktemp("models")) as one:
        yield one


def test_it_says_what_is_loaded_and_how_fast_it_was(apportion: Apportion, server: Running) -> None:
    httpx.post(f"{server.url}/v1/completions", json={"prompt": "once upon a time", "max_tokens": 8})
    outcome = apportion("ps", "--url", server.url)
    assert outcome.status == 0
    assert "ready" in outcome.out
    assert "of 2 GiB spoken for" in outcome.out
    line = next(line for line in outcome.out.splitlines() if "tiny" in line)
    assert "loaded" in line
    assert "256" in line
    assert "No requests." in outcome.out


def test_json_is_the_status_as_the_server_tells_it(apportion: Apportion, server: Running) -> None:
    assert Status.model_validate(apportion("ps", "--json", "--url", server.url).object).ready


def test_requests_have_a_line_each() -> None:
    request = {
        "id": "chatcmpl-1",
        "model": "tiny",
        "state": "prefill",
        "prompt_tokens": 4000,
        "computed_tokens": 512,
        "output_tokens": 0,
        "max_tokens": 100,
        "age_s": 3.0,
        "ttft_s": None,
        "tok_s": None,
    }
    row = ps.request_row(request)
    assert row == ("chatcmpl-1", "tiny", "prefill", "512/4000", "0/100", "3s", "-", "-")


def test_a_key_comes_from_the_settings_and_is_not_shown(
    apportion: Apportion, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(config_for(tmp_path_factory.mktemp("models"), api_keys=(KEY,))) as one:
        refused = apportion("ps", "--url", one.url)
        assert refused.status != 0
        assert "Traceback" not in refused.err
        monkeypatch.setenv("APPORTION_API_KEYS", KEY)
        told = apportion("ps", "--url", one.url)
    assert told.status == 0
    assert KEY not in told.out + told.err


def test_where_nobody_listens_it_says_so(apportion: Apportion) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        outcome = apportion("ps", "--url", f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert outcome.status == 1
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://", "http://user:secret@127.0.0.1"])
def test_what_is_no_address_is_refused(apportion: Apportion, url: str) -> None:
    assert apportion("ps", "--url", url).status == 2


@pytest.mark.parametrize("body", [b"{}", b"[]", b"<html>", b"\xff"])
def test_other_servers_are_told_apart(apportion: Apportion, body: bytes) -> None:
    class Other(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Other) as other:
        thread = threading.Thread(target=other.handle_request)
        thread.start()
        outcome = apportion("ps", "--url", f"http://127.0.0.1:{other.server_port}")
        thread.join(10)
    assert outcome.status == 1
    assert "Traceback" not in outcome.err
