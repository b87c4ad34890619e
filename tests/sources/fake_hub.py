"""A small Hugging Face hub on loopback: the endpoints that its library uses, and faults on demand."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40
NEXT_COMMIT = "b" * 40


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class FakeHub:
    """What it serves and how it misbehaves.

    Attributes:
        files: of the one repository `org/name`, at `commit`.
        large: names that are stored the large-file way (with a sha256), by ending.
        refuse: an HTTP status for every request, or None.
        code: the hub's own error code to go with it, e.g. `GatedRepo`.
        cut_after: bodies end after so many bytes, `cuts` times.
        pause_s: wait so long in the middle of every body, `pauses` times.
        lie: announce this sha256 for large files.
        redirect: serve large files from another host (`elsewhere`), as the hub does.
        log: (method, path, Range header) of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    commit: str = COMMIT
    large: tuple[str, ...] = (".gguf", ".safetensors", ".bin")
    refuse: int | None = None
    code: str = ""
    cut_after: int = 0
    cuts: int = 0
    pause_s: float = 0.0
    pauses: int = 0
    lie: str | None = None
    redirect: bool = True
    log: list[tuple[str, str, str]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    url: str = ""
    elsewhere: str = ""

    def requests(self, method: str, part: str) -> list[str]:
        """The Range headers of the requests of a kind."""
        return [ranged for made, path, ranged in self.log if made == method and part in path]

    def is_large(self, name: str) -> bool:
        return name.endswith(self.large)

    def etag(self, name: str) -> str:
        data = self.files[name]
        return (self.lie or sha256(data)) if self.is_large(name) else git_oid(data)

    def sibling(self, name: str) -> dict[str, Any]:
        data = self.files[name]
        entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_oid(data)}
        if self.is_large(name):
            entry["lfs"] = {"sha256": self.etag(name), "size": len(data), "pointerSize": 134}
        return entry

    def info(self) -> dict[str, Any]:
        siblings = [self.sibling(name) for name in self.files]
        return {
            "id": "org/name",
            "modelId": "org/name",
            "sha": self.commit,
            "siblings": siblings,
            "private": False,
        }


class Requests(BaseHTTPRequestHandler):
    """One request to the fake hub that is the server's `hub`."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> FakeHub:
        hub = self.server.hub  # type: ignore[attr-defined]
        assert isinstance(hub, FakeHub)
        return hub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_HEAD(self) -> None:
        self.respond()

    def do_GET(self) -> None:
        self.respond()

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that gave up
            super().handle()

    def respond(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.log.append((self.command, path, self.headers.get("Range", "")))
        hub.tokens.append(self.headers.get("Authorization", ""))
        if hub.refuse:
            self.send(
                hub.refuse, b"{}", {"X-Error-Code": hub.code, "X-Error-Message": "the fake hub says no"}
            )
        elif path == "/api/models/org/name" or path.startswith("/api/models/org/name/revision/"):
            self.send(200, json.dumps(hub.info()).encode(), {"Content-Type": "application/json"})
        elif path.startswith("/org/name/resolve/"):
            self.resolve(path.removeprefix("/org/name/resolve/").partition("/")[2])
        elif path.startswith("/cdn/"):
            self.content(path.removeprefix("/cdn/"))
        else:
            self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def resolve(self, name: str) -> None:
        hub = self.hub
        if name not in hub.files:
            self.send(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": hub.commit})
            return
        headers = {"ETag": f'"{hub.etag(name)}"', "X-Repo-Commit": hub.commit}
        if hub.is_large(name):
            headers |= {"X-Linked-Etag": f'"{hub.etag(name)}"', "X-Linked-Size": str(len(hub.files[name]))}
            if hub.redirect:
                self.send(302, b"", headers | {"Location": f"{hub.elsewhere}/cdn/{name}"})
                return
        self.content(name, headers)

    def content(self, name: str, headers: dict[str, str] | None = None) -> None:
        data, status, headers = self.hub.files[name], 200, dict(headers or {})
        ranged = self.headers.get("Range", "")
        if ranged.startswith("bytes="):
            first, _, last = ranged.removeprefix("bytes=").partition("-")
            start, stop = int(first), int(last) + 1 if last else len(data)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
            data, status = data[start:stop], 206
        self.send(status, data, headers | {"Accept-Ranges": "bytes"}, may_cut=True)

    def send(self, status: int, body: bytes, headers: dict[str, str], *, may_cut: bool = False) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        hub = self.hub
        if may_cut and hub.cuts and len(body) > hub.cut_after:
            hub.cuts -= 1
            body = body[: hub.cut_after]
            self.close_connection = True
        half = len(body) // 2
        self.wfile.write(body[:half])
        if may_cut and hub.pauses:
            hub.pauses -= 1
            self.wfile.flush()
            time.sleep(hub.pause_s)
        self.wfile.write(body[half:])


class Server:
    """The fake hub, listening on a free port of loopback until closed."""

    def __init__(self, hub: FakeHub) -> None:
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
        self.http.daemon_threads = True
        self.http.hub = hub  # type: ignore[attr-defined]
        port = self.http.server_address[1]
        hub.url, hub.elsewhere = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        self.thread = threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()
