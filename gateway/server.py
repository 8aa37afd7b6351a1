"""Running the service."""

import asyncio
import resource
import socket
from functools import partial
from typing import Any

import uvicorn
from litestar.types import ASGIApp
from threadpoolctl import threadpool_limits

from astrotriton.detection.image.exposure import mute_astropy
from astrotriton.detection.warmup import warm_up
from astrotriton.gateway.app import create_app
from astrotriton.gateway.compute import keep_memory
from astrotriton.gateway.http.arrival import ArrivalMiddleware
from astrotriton.gateway.http.connection import Connection
from astrotriton.gateway.http.middleware import EdgeMiddleware
from astrotriton.gateway.observability.logs import logging_config
from astrotriton.gateway.observability.telemetry import tracing
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.settings import ModelConfig


def server_config(app: ASGIApp, settings: GatewaySettings, **further: Any) -> uvicorn.Config:
    """How an application is served: where, and within which bounds.

    Parameters
    ----------
    app
        What `create_app` makes.
    settings
        Have the address and the bounds.
    further
        What else `uvicorn.Config` takes.
    """
    connection = partial(
        Connection,
        header_timeout=settings.header_timeout,
        max_connections=settings.max_connections,
    )
    return uvicorn.Config(
        EdgeMiddleware(ArrivalMiddleware(app, settings)),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http=connection,  # type: ignore[arg-type]  # it is called, and no more
        h11_max_incomplete_event_size=settings.max_header_bytes,
        ws="none",
        server_header=False,
        **further,
    )


class _Server(uvicorn.Server):
    """Says that it is leaving, and takes requests for a while longer, before it leaves."""

    def __init__(self, settings: GatewaySettings, config: ModelConfig) -> None:
        if settings.otlp_endpoint is not None:
            tracing.start(settings.otlp_endpoint)
        self._app = create_app(settings, config)
        self._delay = settings.drain_delay
        super().__init__(
            server_config(
                tracing.wrap(self._app),
                settings,
                log_config=logging_config(settings.log_level),
                timeout_graceful_shutdown=settings.shutdown_timeout,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.context.health.drain()
        if not self.force_exit:
            await asyncio.sleep(self._delay)
        # They would not end by themselves, and come back elsewhere with where they were.
        self._app.state.context.following.close()
        await super().shutdown(sockets)


def serve(settings: GatewaySettings, config: ModelConfig) -> None:
    """Serve until SIGTERM or SIGINT; what runs then gets ``shutdown_timeout`` to end."""
    # Matrices are small here and exposures many: threads of one multiplication would only wait for
    # each other, and for cores that other exposures use.
    threadpool_limits(limits=1, user_api="blas")
    _allow_files()
    keep_memory()
    mute_astropy()
    warm_up()
    _Server(settings, config).run()


def _allow_files() -> None:
    """Let this process have as many open files, connections among them, as the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
