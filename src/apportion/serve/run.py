"""The process: from a configuration to a server that listens, until it is told to stop.

The first SIGTERM or SIGINT drains: nothing new is taken, what runs may end, and the process ends well. The
second ends it now. SIGHUP reads keys and limits again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import monotonic
from types import FrameType
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from apportion.core.errors import ApportionError
from apportion.engine.budget import ram_bytes
from apportion.serve.access import Keys, check_exposed
from apportion.serve.app import create_app
from apportion.serve.config import ServeConfig
from apportion.serve.listening import BACKLOG, affordable, listen, url_of
from apportion.serve.logs import Logging
from apportion.serve.notify import notify
from apportion.serve.protocol import GuardedProtocol
from apportion.serve.site import Site
from apportion.serve.watchdog import Watchdog

ENDING = (signal.SIGTERM, signal.SIGINT)
CANCEL_S = 2  # for requests that are cut off to end
TICK_S = 0.05

Reload = Callable[[ServeConfig], ServeConfig]
logger = logging.getLogger("apportion.serve")


def serve(
    config: ServeConfig, on_listen: Callable[[str], None] | None = None, reload: Reload | None = None
) -> None:
    """Serve until a signal ends it.

    Args:
        on_listen: told the server's address.
        reload: gives the configuration anew, for SIGHUP; its keys, limits of bodies and names are taken up.

    Raises:
        UsageError: others could reach the server and no key is set, or it cannot listen at the address.
        InUse: somebody else has the port.
    """
    check_exposed(config.host, Keys(config.api_keys, config.admin_key))
    config = within_means(config)
    sockets = listen(config.host, config.port)
    with Logging(config.log_format, config.log_level):
        app = create_app(config)
        if on_listen is not None:
            on_listen(url_of(sockets))
        logger.info("listening", extra={"fields": {"url": url_of(sockets)}})
        try:
            Process(app, reload).run(sockets)
        finally:
            for one in sockets:
                one.close()
        logger.info("ended")


def within_means(config: ServeConfig) -> ServeConfig:
    """The configuration with no more connections than the system gives file descriptors for, and with bodies
    that the budget has room for.
    """
    limits = replace(config.limits, connections=affordable(config.limits.connections))
    return replace(config, limits=limits if config.ram is None else limits.within(ram_bytes(config.ram)))


class Process(uvicorn.Server):
    """An application behind sockets, and the signals that it hears."""

    def __init__(self, app: FastAPI, reload: Reload | None = None) -> None:
        site = app.state.site
        assert isinstance(site, Site)
        super().__init__(uvicorn_config(app, site))
        self._site = site
        self._reload = reload
        self._stopping: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None]
        self._watchdog = Watchdog(
            site.config.watch_s, lambda: site.pump.step_began_s, lambda: request_ids(site)
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._watchdog.start()
        self._telling = asyncio.create_task(self._tell_ready())

    async def _tell_ready(self) -> None:
        """Who started the server hears that it serves once its first model is there."""
        notify("STATUS=loading")
        while not self._site.is_ready:
            await asyncio.sleep(TICK_S)
        notify("READY=1", "STATUS=serving")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._watchdog.stop()
        self._telling.cancel()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """In place of uvicorn's, which ends the process by the signal once more."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        loop = asyncio.get_running_loop()
        before = {number: signal.signal(number, self._end) for number in ENDING}
        loop.add_signal_handler(signal.SIGHUP, self.take_up)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            for number, heard in before.items():
                signal.signal(number, heard)

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self._site.draining:
            os._exit(128 + number)
        self._site.draining = True
        asyncio.get_running_loop().call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Take nothing new, and stop once nothing runs."""
        self._site.draining = True
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        site = self._site
        notify("STOPPING=1", "STATUS=draining")
        logger.info("stopping", extra={"fields": {"running": site.work.num_inside}})
        give_up = monotonic() + site.config.drain_s
        while site.work.num_inside and monotonic() < give_up:
            await asyncio.sleep(TICK_S)
        if site.work.num_inside:
            fields = {"requests": ",".join(request_ids(site)), "drain_s": site.config.drain_s}
            logger.warning("requests are cut off", extra={"fields": fields})
        for answer in site.pump.answers():
            answer.cancel()
        self.should_exit = True

    def take_up(self) -> None:
        """Read keys, names and limits of bodies again; what cannot be read leaves all as it was."""
        if self._reload is None:
            return
        try:
            self._site.take_up(within_means(self._reload(self._site.config)))
        except ApportionError as error:
            logger.error("the configuration stays as it was", extra={"fields": {"why": str(error)}})
        else:
            logger.info("the configuration was read again")


def uvicorn_config(app: FastAPI, site: Site) -> uvicorn.Config:
    """What uvicorn is told. It looks at no environment, writes no log and trusts no proxy's headers."""
    protocol = partial(GuardedProtocol, crowd=site.crowd)
    return uvicorn.Config(
        app,
        http=cast("Any", protocol),
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        workers=1,
        backlog=BACKLOG,
        lifespan="on",
        timeout_graceful_shutdown=CANCEL_S,
    )


def request_ids(site: Site) -> Sequence[str]:
    """Of the requests that are being answered."""
    return [answer.record.request_id for answer in site.pump.answers() if answer.record is not None]
