"""The OpenAPI document: what cannot be read from the handlers' types."""

from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version

import msgspec
from litestar import Router
from litestar.enums import ParamType
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import (
    Components,
    Encoding,
    Example,
    License,
    OpenAPI,
    OpenAPIFormat,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
    Tag,
)
from litestar.static_files import create_static_files_router

from astrotriton.detection.sources.candidate_tables import ID_COLUMNS, POSITION_COLUMNS
from astrotriton.gateway.http.examples import BY_REFERENCE, REQUEST, RESPONSE, written_out
from astrotriton.gateway.http.formats import BINARY, CSV, FITS, WRITERS
from astrotriton.gateway.http.streams import STREAMS
from astrotriton.wire.detections import LabelIn
from astrotriton.wire.drift import BaselineIn
from astrotriton.wire.models import PrevalenceIn, RouteIn
from astrotriton.wire.problems import Problem
from astrotriton.wire.runs import InferByReference, InferRequest, RunStatus
from astrotriton.wire.stamps import InferStamps
from astrotriton.wire.validation import ValidateIn

_DESCRIPTION = """\
Scores the sources of a difference exposure with the served version of an astronomical U-Net.

**Pixels** are 0-based floats with x along columns, and the centre of the first pixel is (0, 0), as
in numpy and SEP; ds9, SExtractor and FITS headers count from 1. **Sky coordinates** are ICRS
degrees.

**Errors** are problem details (RFC 9457), `application/problem+json`; `type` is stable, `field`
names the part of the request that is wrong, and `dependency` the part of the service that failed.
After a 503, come back when `Retry-After` says.
"""

_TAGS = {
    "detections": "Exposures scored, and the detections that were made of them.",
    "runs": "Exposures that are being scored, or were.",
    "models": "Versions of the model, which of them answer, and how well they do.",
    "health": "Whether the service can do its work.",
}

_ASSETS = "/assets"

_PAIRS = ", ".join(
    f"`{'`/`'.join(pair.names)}`"
    + (" (degrees)" if pair.sky else f" (the first pixel is {pair.first})")
    for pair in POSITION_COLUMNS
)

_PROBLEMS = {
    400: "The request is malformed.",
    401: "Credentials are missing or not valid.",
    403: "The credentials lack the scope that this needs.",
    404: "No such resource.",
    406: "There is no answer in an accepted format.",
    408: "The body, or the headers, came too slowly.",
    409: "What there is does not allow it; the detail says why.",
    413: "The body, the exposure or the list of candidates is too large.",
    415: "The body is of a kind that is not taken, or is encoded.",
    422: "The request is not valid, or cannot be scored; `field` says which part is wrong.",
    429: "The caller's own limit is reached; `Retry-After` says when to come back.",
    431: "The headers are too large, or too many.",
    502: "The model gave an invalid answer. Nothing was stored.",
    503: "The service is full, or a part it depends on is not available. Nothing was stored.",
    504: "The deadline has passed. Nothing was stored.",
}


def problems(*statuses: int) -> dict[int, ResponseSpec]:
    """The problems that an operation may answer with, for its ``responses``."""
    return {
        status: ResponseSpec(
            Problem,
            description=_PROBLEMS[status],
            media_type="application/problem+json",
            generate_examples=False,
        )
        for status in sorted({400, 415, 422, 431, *statuses})
    }


def _file(description: str | None = None) -> Schema:
    """Bytes, in the words that generators of clients know."""
    return Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY, description=description)


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
                            "exposure": _file(
                                "A FITS file, also `.gz` or `.fz`, or a NumPy `.npy` file of two "
                                "dimensions. NaN pixels are masked.",
                            ),
                            "mask": _file(
                                "A data-quality plane of the same shape, FITS or "
                                "`.npy`: pixels are left out where it is not 0.",
                            ),
                            "weight": _file(
                                "A weight map of the same shape, FITS or `.npy`, up to "
                                "a factor: the noise of each pixel. Pixels are left out where it "
                                "is not above 0.",
                            ),
                            "psf": _file(
                                "The PSF on the exposure's pixels, FITS or `.npy`, in "
                                "the middle of an image of odd sides; its sum is the whole flux.",
                            ),
                            "science": _file(
                                "The science image on the exposure's pixels, FITS or `.npy`: the "
                                "new image, before the template was subtracted.",
                            ),
                            "template": _file(
                                "The template (reference) image on the exposure's pixels, FITS or "
                                "`.npy`.",
                            ),
                            "candidates": _file(
                                "A table of candidates, in place of those in the "
                                "request: CSV, ECSV, VOTable, FITS or a catalogue of SExtractor. "
                                f"It has one of the pairs of columns {_PAIRS}, and perhaps an id "
                                f"({', '.join(f'`{name}`' for name in ID_COLUMNS)}).",
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
                ),
            },
        )
        _add_answers(self)


@dataclass
class InferByReferenceOperation(Operation):
    """``POST /detections/infer-by-reference``, whose handler reads the body itself."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            required=True,
            content={
                "application/json": OpenAPIMediaType(
                    schema=Reference(ref="#/components/schemas/InferByReference"),
                    examples={
                        "object": Example(summary="An object in a bucket", value=BY_REFERENCE)
                    },
                ),
            },
        )
        _add_answers(self)


@dataclass
class InferStampsOperation(Operation):
    """``POST /detections/infer-stamps``, whose handler reads the form itself."""

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            required=True,
            content={
                "multipart/form-data": OpenAPIMediaType(
                    schema=Schema(
                        type=OpenAPIType.OBJECT,
                        required=["stamps"],
                        properties={
                            "stamps": _file(
                                "A cube of difference stamps of one size, FITS or NumPy `.npy`, "
                                "also `.gz`: its axes are stamps, rows, columns, in NumPy's order. "
                                "NaN pixels are masked."
                            ),
                            "request": Reference(ref="#/components/schemas/InferStamps"),
                        },
                    ),
                    encoding={
                        "stamps": Encoding(content_type="application/octet-stream"),
                        "request": Encoding(content_type="application/json"),
                    },
                ),
            },
        )
        kept = ("Idempotency-Key", "Request-Timeout")
        headers = [one for one in _INFER_HEADERS if one.name in kept]
        self.parameters = [*(self.parameters or []), *headers]


def _add_answers(operation: Operation) -> None:
    """Add what both ways to score an exposure have in common."""
    operation.parameters = [*(operation.parameters or []), *_INFER_HEADERS]
    if operation.responses is not None:
        operation.responses["202"] = _ACCEPTED
    answer = operation.responses["200"] if operation.responses else None
    if isinstance(answer, OpenAPIResponse) and answer.content:
        answer.content["application/json"].examples = {
            "run": Example(summary="One real source", value=written_out(RESPONSE))
        }
    _add_formats(answer)


@dataclass
class DetectionsOperation(Operation):
    """An operation whose answer has detections, in several formats."""

    def __post_init__(self) -> None:
        _add_formats(self.responses["200"] if self.responses else None)


@dataclass
class LabelsOperation(Operation):
    """An operation that answers labels, as JSON or CSV."""

    def __post_init__(self) -> None:
        answer = self.responses["200"] if self.responses else None
        if isinstance(answer, OpenAPIResponse) and answer.content is not None:
            answer.content[CSV] = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))


@dataclass
class StreamOperation(Operation):
    """An operation whose answer goes on."""

    def __post_init__(self) -> None:
        self.parameters = [*(self.parameters or []), _LAST_EVENT]
        answer = self.responses["200"] if self.responses else None
        if isinstance(answer, OpenAPIResponse):
            answer.content = {
                kind: OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING)) for kind in STREAMS
            }


@dataclass
class PictureOperation(Operation):
    """An operation that answers a picture."""

    def __post_init__(self) -> None:
        answer = self.responses["200"] if self.responses else None
        if isinstance(answer, OpenAPIResponse):
            answer.content = {"image/png": OpenAPIMediaType(schema=_file())}


@dataclass
class FileOperation(Operation):
    """An operation that answers a FITS file."""

    def __post_init__(self) -> None:
        answer = self.responses["200"] if self.responses else None
        if isinstance(answer, OpenAPIResponse):
            answer.content = {FITS: OpenAPIMediaType(schema=_file())}


@dataclass
class PageOperation(Operation):
    """An operation that answers a page."""

    def __post_init__(self) -> None:
        answer = self.responses["200"] if self.responses else None
        if isinstance(answer, OpenAPIResponse):
            answer.content = {"text/html": OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))}


def _add_formats(answer: object) -> None:
    if isinstance(answer, OpenAPIResponse) and answer.content is not None:
        for kind in WRITERS:
            schema = _file() if kind in BINARY else Schema(type=OpenAPIType.STRING)
            answer.content[kind] = OpenAPIMediaType(schema=schema)


_INFER_HEADERS = [
    Parameter(
        name="Prefer",
        param_in=ParamType.HEADER,
        description="`respond-async`: answer 202 at once, and score in the background.",
        schema=Schema(type=OpenAPIType.STRING),
    ),
    Parameter(
        name="Idempotency-Key",
        param_in=ParamType.HEADER,
        description="Your name for this request: sent again with it, it is scored once. Kept for a "
        "day.",
        schema=Schema(type=OpenAPIType.STRING, pattern="^[!-~]{1,200}$"),
    ),
    Parameter(
        name="Request-Timeout",
        param_in=ParamType.HEADER,
        description="Seconds that you wait; after that nothing is done for you any more.",
        schema=Schema(type=OpenAPIType.NUMBER, exclusive_minimum=0),
    ),
]

_LAST_EVENT = Parameter(
    name="Last-Event-ID",
    param_in=ParamType.HEADER,
    description="The `id` of the event that came last: the stream goes on behind it.",
    schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.UUID),
)

_ACCEPTED = OpenAPIResponse(
    description="The exposure is scored in the background; `Location` is where to ask for the run.",
    headers={"Location": OpenAPIHeader(schema=Schema(type=OpenAPIType.STRING))},
    content={
        "application/json": OpenAPIMediaType(schema=Reference(ref="#/components/schemas/RunStatus"))
    },
)


def complete(document: OpenAPI) -> None:
    """Add what Litestar does not see in a handler's signature, and which operations ask nobody.

    These are schemas. Those of other bodies it sees, but not that they allow no further fields.
    """
    _, schemas = msgspec.json.schema_components(
        [
            InferRequest,
            InferByReference,
            InferStamps,
            RunStatus,
            LabelIn,
            RouteIn,
            PrevalenceIn,
            ValidateIn,
            BaselineIn,
        ],
        ref_template="#/components/schemas/{name}",
    )
    document.components.schemas.update(schemas)
    for path in (document.paths or {}).values():
        for operation in (path.get, path.post, path.put, path.patch):
            if operation is not None and operation.security is None:
                # Said, so that nobody takes it for forgotten.
                operation.security = []


def openapi_config() -> OpenAPIConfig:
    """The document at ``/schema/openapi.json``, and a page to read and try it at ``/schema``."""
    return OpenAPIConfig(
        title="astrotriton",
        version=version("astrotriton"),
        description=_DESCRIPTION,
        license=License(name="BSD 3-Clause", identifier="BSD-3-Clause"),
        tags=[Tag(name=name, description=meaning) for name, meaning in _TAGS.items()],
        use_handler_docstrings=True,
        components=Components(
            security_schemes={
                "bearer": SecurityScheme(
                    type="http",
                    scheme="bearer",
                    description="An API key (`astrotriton keys create`) or an OIDC token.",
                )
            }
        ),
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
