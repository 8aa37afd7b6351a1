"""The OpenAPI document: what cannot be read from the handlers' types."""

from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version

import msgspec
from litestar import Router
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import (
    Encoding,
    Example,
    OpenAPI,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Reference,
    RequestBody,
    Schema,
)
from litestar.static_files import create_static_files_router

from gateway.examples import REQUEST, RESPONSE
from gateway.schemas import InferRequest

_DESCRIPTION = """\
Scores the sources of a difference exposure with the served version of an astronomical U-Net.

**Pixels** are 0-based floats with x along columns, and the centre of the first pixel is (0, 0), as
in numpy and SEP; ds9, SExtractor and FITS headers count from 1. **Sky coordinates** are ICRS
degrees.

**Errors** are problem details (RFC 9457), `application/problem+json`; `type` is stable, `field`
names the part of the request that is wrong, and `dependency` the part of the service that failed.
After a 503, come back when `Retry-After` says.
"""

_ASSETS = "/assets"

_PROBLEMS = {
    400: "The request is malformed.",
    404: "No such resource.",
    408: "The body came too slowly.",
    413: "The exposure, or the list of candidates, is too large.",
    415: "The body is not multipart/form-data.",
    422: "The exposure or the request cannot be scored; `field` says which part is wrong.",
    502: "The model gave an invalid answer. Nothing was stored.",
    503: "The service is full, or a part it depends on is not available. Nothing was stored.",
}


class Problem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Problem details (RFC 9457). Programs go by ``type``; the texts may change."""

    type: str
    title: str
    status: int
    detail: str
    field: str | None = None
    dependency: str | None = None


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """The problems that an operation may answer with, for its ``responses``."""
    return {
        status: ResponseSpec(
            Problem,
            description=_PROBLEMS[status],
            media_type="application/problem+json",
            generate_examples=False,
        )
        for status in statuses
    }


@dataclass
class InferOperation(Operation):
    """``POST /detections/infer``, whose handler reads the form itself."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            required=True,
            content={
                "multipart/form-data": OpenAPIMediaType(
                    schema=Schema(
                        type=OpenAPIType.OBJECT,
                        required=["exposure"],
                        properties={
                            "exposure": Schema(
                                type=OpenAPIType.STRING,
                                content_media_type="application/octet-stream",
                                description="A FITS file, also `.fz` or `.gz`, or a NumPy `.npy` "
                                "file of two dimensions. NaN pixels are masked.",
                            ),
                            "request": Reference(ref="#/components/schemas/InferRequest"),
                        },
                    ),
                    encoding={
                        "exposure": Encoding(content_type="application/octet-stream"),
                        "request": Encoding(content_type="application/json"),
                    },
                    examples={
                        "candidates": Example(
                            summary="Two candidates of the caller's",
                            value={"exposure": "(the file)", "request": REQUEST},
                        )
                    },
                )
            },
        )
        answer = self.responses["200"] if self.responses else None
        if isinstance(answer, OpenAPIResponse) and answer.content:
            answer.content["application/json"].examples = {
                "run": Example(summary="One real source", value=RESPONSE)
            }


def add_form_schemas(document: OpenAPI) -> None:
    """Add the schemas of the form, which Litestar does not see in a handler's signature."""
    _, schemas = msgspec.json.schema_components(
        [InferRequest], ref_template="#/components/schemas/{name}"
    )
    document.components.schemas.update(schemas)


def openapi_config() -> OpenAPIConfig:
    """The document at ``/schema/openapi.json``, and a page to read and try it at ``/schema``."""
    return OpenAPIConfig(
        title="astrotriton",
        version=version("astrotriton"),
        description=_DESCRIPTION,
        use_handler_docstrings=True,
        render_plugins=[
            SwaggerRenderPlugin(
                js_url=f"{_ASSETS}/swagger-ui-bundle.js",
                css_url=f"{_ASSETS}/swagger-ui.css",
                standalone_preset_js_url=f"{_ASSETS}/swagger-ui-standalone-preset.js",
                favicon=f'<link rel="icon" href="{_ASSETS}/favicon-32x32.png">',
            ),
            JsonRenderPlugin(),
            YamlRenderPlugin(),
        ],
    )


def page_assets() -> Router:
    """Scripts and styles of the page, from a package: the page works without the internet."""
    folder = resources.files("swagger_ui") / "static"
    return create_static_files_router(
        _ASSETS, directories=[str(folder)], include_in_schema=False, name="page-assets"
    )
