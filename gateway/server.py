"""Running the service."""

import uvicorn

from detection.config import ModelConfig
from gateway.app import create_app
from gateway.config import Settings
from gateway.logs import RequestIdMiddleware, logging_config


def serve(settings: Settings, config: ModelConfig) -> None:
    """Serve until SIGTERM or SIGINT; requests that run get ``shutdown_timeout`` to end."""
    uvicorn.run(
        RequestIdMiddleware(create_app(settings, config)),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        log_config=logging_config(settings.log_level),
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_timeout,
    )
