"""The page in front of a scene instead of a server: for work on the page, and for its pictures.

python web/mock/server.py [PORT]
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent))
import scene

STATIC = Path(__file__).parents[2] / "src" / "apportion" / "serve" / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
PAST_S = 320  # what the charts show at once, so that nobody needs to wait for them


class Mock(BaseHTTPRequestHandler):
    """One visitor's call."""

    protocol_version = "HTTP/1.1"
    server: MockServer

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/v1/apportion/events":
            self.stream(self.statuses(), 1.0 if self.server.moving else None, PAST_S)
        elif path == "/v1/apportion/status":
            self.answer(200, scene.status(scene.START_S))
        elif path == "/v1/apportion/experts":
            self.answer(200, scene.experts())
        else:
            self.file("index.html" if path == "/" else path.lstrip("/"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/apportion/plan":
            self.plan(int(body["ram"]))
        else:
            self.stream(iter(scene.chat_events()), 0.02 if self.server.moving else 0.0, 0)

    def do_DELETE(self) -> None:
        self.answer(200, {"cancelled": True})

    def plan(self, ram: int) -> None:
        try:
            self.answer(200, scene.plan_of(ram))
        except LookupError:
            details = scene.PLANS["refused"]["error"]
            error = {"message": details["what"], "code": details["code"], "details": details}
            self.answer(400, {"error": error})

    def statuses(self) -> Iterator[dict[str, Any]]:
        for second in count(scene.START_S - PAST_S):
            yield scene.status(second)

    def stream(self, events: Iterator[dict[str, Any]], pause_s: float | None, at_once: int) -> None:
        """Events with pauses; without any where `pause_s` is None, silence after the first `at_once`."""
        self.head(200, "text/event-stream")
        try:
            for index, event in enumerate(events):
                if index > at_once:
                    if pause_s is None:
                        self.server.closing.wait()
                        return
                    time.sleep(pause_s)
                self.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            self.write(b"data: [DONE]\n\n")
            self.write(b"")
        except (BrokenPipeError, ConnectionResetError):
            return

    def write(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def head(self, status: int, media_type: str, nbytes: int | None = None) -> None:
        self.send_response(status)
        self.send_header("content-type", media_type)
        if nbytes is None:
            self.send_header("transfer-encoding", "chunked")
        else:
            self.send_header("content-length", str(nbytes))
        self.end_headers()

    def answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.head(status, "application/json", len(content))
        self.wfile.write(content)

    def file(self, name: str) -> None:
        path = STATIC / name
        if STATIC not in path.resolve().parents or not path.is_file():
            return self.answer(404, {"error": {"message": "not found"}})
        content = path.read_bytes()
        self.head(200, TYPES.get(path.suffix, "text/plain"), len(content))
        self.wfile.write(content)
        return None

    def log_message(self, *_words: object) -> None:
        """Silence."""


class MockServer(ThreadingHTTPServer):
    """Args:
    moving: time passes; else the scene stands still, for pictures.
    """

    daemon_threads = True

    def __init__(self, port: int, *, moving: bool) -> None:
        super().__init__(("127.0.0.1", port), Mock)
        self.moving = moving
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


if __name__ == "__main__":
    mock = MockServer(int(sys.argv[1]) if len(sys.argv) > 1 else 8080, moving=True)
    print(mock.url)
    mock.serve_forever()
