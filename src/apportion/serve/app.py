"""The application: routes, gates and errors, put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route

from apportion import __version__
from apportion.core.errors import ApportionError
from apportion.serve.access import for_users
from apportion.serve.browsers import Browsers
from apportion.serve.config import ServeConfig
from apportion.serve.drain import Draining
from apportion.serve.errors import on_apportion_error, on_http_error, on_invalid, on_unexpected
from apportion.serve.gate import Gate
from apportion.serve.intake import Bodies
from apportion.serve.meters import Meters
from apportion.serve.models import Models
from apportion.serve.openapi import describe
from apportion.serve.pump import Pump
from apportion.serve.request_log import RequestLog
from apportion.serve.routes import (
    admin,
    chat,
    completions,
    embeddings,
    health,
    messages,
    metrics,
    models,
    page,
    responses,
    status,
    tokens,
)
from apportion.serve.site import Site

logger = logging.getLogger("apportion.serve")
OPENAPI = "/openapi.json"
FAMILIES = (
    chat,
    completions,
    responses,
    messages,
    embeddings,
    tokens,
    models,
    health,
    status,
    metrics,
    admin,
    page,
)


def create_app(config: ServeConfig) -> FastAPI:
    """The server as an ASGI application; it begins to load the first model when it starts."""
    app = FastAPI(
        title="apportion",
        version=__version__,
        summary="Language models inside a memory budget",
        lifespan=lifespan,
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
        openapi_url=OPENAPI,
    )
    meters = Meters(model.name for model in config.models)
    pump = Pump(config.limits.queue, config.ping_s, on_begin=meters.began, on_end=meters.ended)
    site = Site(config, Models(config), pump, meters)
    app.state.site = site
    for family in FAMILIES:
        app.router.routes.extend(family.router.routes)  # flat, so that the gate sees every route
    app.add_exception_handler(ApportionError, on_apportion_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_unexpected)
    describe(app, config)
    for_users(endpoint_of(app, OPENAPI))
    guard(app, site)
    return app


def guard(app: FastAPI, site: Site) -> None:
    """Put the guards before the application; a request passes them from the last to the first."""
    app.add_middleware(Bodies, body_nbytes=lambda: site.config.limits.body_nbytes, room=site.room)
    app.add_middleware(Draining, is_draining=lambda: site.draining, work=site.work)
    app.add_middleware(Gate, keys=lambda: site.keys, routes=lambda: app.routes)
    app.add_middleware(Browsers, names=lambda: site.names, origins=site.config.cors_origins)
    app.add_middleware(RequestLog, answered=site.meters.answered)


def endpoint_of(app: FastAPI, path: str) -> Any:
    """What answers at a path."""
    return next(route.endpoint for route in app.routes if isinstance(route, Route) and route.path == path)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    site: Site = app.state.site
    site.pump.start()
    first = asyncio.create_task(load_first(site))
    try:
        yield
    finally:
        site.draining = True
        first.cancel()
        with suppress(asyncio.CancelledError):
            await first
        await site.pump.stop()
        await site.models.close()
        site.planning.close()
        site.readers.shutdown(wait=False, cancel_futures=True)


async def load_first(site: Site) -> None:
    """Load the default model, so that the first request need not wait for it."""
    try:
        await site.models.load(site.models.default_name)
    except ApportionError as error:
        logger.error("%s", error)
