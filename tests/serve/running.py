"""Servers for tests: a tiny model with random weights behind the real application, on a real socket or in
process.

    with running(config_for(folder)) as server:
        httpx.get(f"{server.url}/ready")
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from tests.models.tiny import tiny_gguf

from apportion.serve import ModelSpec, ServeConfig
from apportion.serve.app import create_app
from apportion.serve.listening import listen, url_of
from apportion.serve.run import Process
from apportion.serve.site import Site

READY_S = 20.0
STOP_S = 60.0  # a busy machine takes a while to collect what a test's process holds


@dataclass(frozen=True)
class Running:
    """A server that listens at `url`; `loop` is the event loop that it runs on."""

    url: str
    app: FastAPI
    loop: asyncio.AbstractEventLoop

    @property
    def site(self) -> Site:
        site = self.app.state.site
        assert isinstance(site, Site)
        return site


def config_for(folder: Path, family: str = "llama", **changes: Any) -> ServeConfig:
    """A server of one tiny model, called `tiny`, that computes on one thread."""
    path = tiny_gguf(family, folder)
    return replace(ServeConfig((ModelSpec("tiny", str(path)),), port=0, offline=True, threads=1), **changes)


@contextmanager
def running(config: ServeConfig) -> Iterator[Running]:
    """The application behind a socket of its own, its model loaded."""
    app = create_app(config)
    sockets = listen(config.host, config.port)
    server = Process(app)
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve(sockets)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    try:
        url = url_of(sockets)
        wait_ready(url)
        yield Running(url, app, loops[0])
    finally:
        server.should_exit = True
        thread.join(STOP_S)
        assert not thread.is_alive(), f"the server did not stop; its threads are at\n{whereabouts()}"


def whereabouts() -> str:
    """Where every thread of this process is."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    told = []
    for ident, frame in sys._current_frames().items():
        told += [f"--- {names.get(ident)}\n", *traceback.format_stack(frame)]
    return "".join(told)


def wait_ready(url: str) -> None:
    """Until its first model is loaded."""
    give_up = time.monotonic() + READY_S
    while time.monotonic() < give_up:
        if httpx.get(f"{url}/ready", timeout=READY_S).status_code == 200:
            return
        time.sleep(0.01)
    raise AssertionError("the server did not become ready")
