"""Running the service."""

import asyncio
import socket

import uvicorn
from threadpoolctl import threadpool_limits

from astrotriton.detection.image.exposure import mute_astropy
from astrotriton.detection.warmup import warm_up
from astrotriton.gateway.app import create_app
from astrotriton.gateway.compute import keep_memory
from astrotriton.gateway.http.middleware import EdgeMiddleware
from astrotriton.gateway.observability.logs import logging_config
from astrotriton.gateway.observability.telemetry import tracing
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.settings import ModelConfig


class _Server(uvicorn.Server):
    """Says that it is leaving, and takes requests for a while longer, before it leaves."""

    def __init__(self, settings: GatewaySettings, config: ModelConfig) -> None:
        if settings.otlp_endpoint is not None:
            tracing.start(settings.otlp_endpoint)
        self._app = create_app(settings, config)
        self._delay = settings.drain_delay
        super().__init__(
            uvicorn.Config(
                EdgeMiddleware(tracing.wrap(self._app)),
                host=settings.host,
                port=settings.port,
                loop="uvloop",
                # Nothing here is a WebSocket, and uvicorn would log the query of who asks for one.
                ws="none",
                log_config=logging_config(settings.log_level),
                server_header=False,
                timeout_graceful_shutdown=settings.shutdown_timeout,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.context.health.drain()
        if not self.force_exit:
            await asyncio.sleep(self._delay)
        await super().shutdown(sockets)


def serve(settings: GatewaySettings, config: ModelConfig) -> None:
    """Serve until SIGTERM or SIGINT; what runs then gets ``shutdown_timeout`` to end."""
    # Matrices are small here and exposures many: threads of one multiplication would only wait for
    # each other, and for cores that other exposures use.
    threadpool_limits(limits=1, user_api="blas")
    keep_memory()
    mute_astropy()
    warm_up()
    _Server(settings, config).run()
