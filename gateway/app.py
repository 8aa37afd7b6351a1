"""The Litestar application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide

from astrotriton.gateway.context import Context, open_context
from astrotriton.gateway.errors import problem_details
from astrotriton.gateway.handlers.dashboard import pages, templates
from astrotriton.gateway.handlers.detections import DetectionController
from astrotriton.gateway.handlers.events import event_schemas
from astrotriton.gateway.handlers.following import FollowController
from astrotriton.gateway.handlers.health import HealthController, metrics
from astrotriton.gateway.handlers.labels import LabelController
from astrotriton.gateway.handlers.models import ModelController
from astrotriton.gateway.handlers.monitoring import DriftController, ValidationController
from astrotriton.gateway.handlers.runs import RunController
from astrotriton.gateway.http.middleware import name_methods
from astrotriton.gateway.http.openapi import complete, openapi_config, page_assets
from astrotriton.gateway.http.requests import LARGEST_JSON, check_request
from astrotriton.gateway.readers.process import ForkServer
from astrotriton.gateway.rpc.service import serve_rpc
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.settings import ModelConfig


def create_app(
    settings: GatewaySettings, config: ModelConfig, fork_server: ForkServer | None = None
) -> Litestar:
    """The application; what it depends on is opened when it starts, and may come up later.

    Parameters
    ----------
    fork_server
        Forks the processes that read files, for several gateways in one process.
    """

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        async with open_context(settings, config, fork_server) as context, serve_rpc(context):
            app.state.context = context
            yield

    app = Litestar(
        route_handlers=[
            DetectionController,
            FollowController,
            RunController,
            LabelController,
            ModelController,
            ValidationController,
            DriftController,
            HealthController,
            metrics,
            event_schemas(),
            page_assets(),
            pages(),
        ],
        dependencies={"context": Provide(_context, sync_to_thread=False)},
        lifespan=[lifespan],
        before_send=[name_methods],
        plugins=[problem_details],
        template_config=templates(),
        openapi_config=openapi_config(),
        request_max_body_size=LARGEST_JSON,
        before_request=check_request,
        logging_config=None,
    )
    complete(app.openapi_schema)
    return app


def _context(state: State) -> Context:
    context: Context = state.context
    return context
