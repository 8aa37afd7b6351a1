"""The pages under ``/dashboard``."""

from litestar import Router
from litestar.plugins.jinja import JinjaTemplateEngine
from litestar.static_files import create_static_files_router
from litestar.template import TemplateConfig

from astrotriton.gateway.dashboard import views
from astrotriton.gateway.handlers.dashboard.detections import DetectionPages
from astrotriton.gateway.handlers.dashboard.exposures import ExposurePages
from astrotriton.gateway.handlers.dashboard.page import HOME
from astrotriton.gateway.handlers.dashboard.session import SessionController
from astrotriton.gateway.handlers.dashboard.versions import VersionPages


def pages() -> Router:
    """The pages and their style sheet."""
    return Router(
        path="/",
        route_handlers=[
            SessionController,
            ExposurePages,
            DetectionPages,
            VersionPages,
            create_static_files_router(
                f"{HOME}/static",
                directories=[views.STATIC],
                include_in_schema=False,
                name="dashboard-static",
            ),
        ],
    )


def templates() -> TemplateConfig[JinjaTemplateEngine]:
    """Where the pages' templates are."""
    return TemplateConfig(instance=JinjaTemplateEngine.from_environment(views.environment()))
