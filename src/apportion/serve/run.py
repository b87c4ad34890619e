"""The process: from a configuration to a server that listens, until it is told to stop."""

from __future__ import annotations

import uvicorn

from apportion.serve.app import create_app
from apportion.serve.config import ServeConfig


def serve(config: ServeConfig) -> None:
    """Serve until a signal ends it."""
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(config),
            host=config.host,
            port=config.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(config.drain_s),
            limit_concurrency=None,
        )
    )
    server.run()
