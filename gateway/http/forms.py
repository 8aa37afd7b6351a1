"""Reading what is to be scored, within bounds and without a copy on disk."""

import asyncio
import io
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
)

from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.image.planes import PLANE_FIELDS
from astrotriton.gateway.backends.object_store import ObjectStore
from astrotriton.gateway.errors import MalformedBodyError, MediaTypeError, UploadTimeoutError
from astrotriton.gateway.readers.pool import Readers
from astrotriton.gateway.services.admission import Place
from astrotriton.gateway.services.inference import Submission
from astrotriton.gateway.services.stamps import StampSubmission
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.wire.fields import FieldError, printable
from astrotriton.wire.runs import InferByReference, InferRequest
from astrotriton.wire.stamps import InferStamps

_Request = TypeVar("_Request", InferRequest, InferByReference, InferStamps)

_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"missing required field `(?P<name>\w+)`")


@dataclass(slots=True)
class _Part:
    filename: str | None
    body: io.BytesIO


async def read_infer_form(
    request: Request[Any, Any, Any],
    settings: GatewaySettings,
    objects: ObjectStore,
    readers: Readers,
    place: Place,
) -> Submission:
    """What a request's body wants scored: the parts of a form, or objects that it names.

    Parameters
    ----------
    readers
        Read a table of candidates.
    place
        Holds the bytes as they arrive, and those of an object before it is read.

    Raises
    ------
    BusyError, LimitError
        If there are too many bytes inside already, or too many of the caller's.
    MediaTypeError, MalformedBodyError, UploadTimeoutError
        If the body is neither a form nor JSON, breaks off, or comes too slowly.
    InputError
        If a part is missing, unknown, too large, or not what it should be; it names the field.
    DependencyError
        If an object cannot be read now.
    """
    kind, options = request.content_type
    if kind not in ("multipart/form-data", "application/json"):
        raise MediaTypeError(
            "send multipart/form-data with the file as the part `exposure`, or JSON that names it"
        )
    bounds = {
        **dict.fromkeys(("exposure", *PLANE_FIELDS), settings.max_bytes),
        "request": settings.max_request_part,
        "candidates": settings.max_request_part,
    }
    async with _arriving(settings):
        stream = _holding(request, settings, place)
        if kind == "application/json":
            body = await _read_whole(stream, settings.max_request_part)
        else:
            parts = await _read_parts(stream, options.get("boundary", ""), bounds)
    if kind == "application/json":
        by_reference = _decode(body, InferByReference)
        return await _fetch(by_reference, settings, objects, readers, place)

    if "exposure" not in parts:
        raise InputError("missing-part", "exposure", "send the file as the part `exposure`")
    planes = {name: parts[name].body.getvalue() if name in parts else None for name in PLANE_FIELDS}
    how = InferRequest()
    if "request" in parts:
        how = decode_request(parts["request"].body.getvalue())
    if "candidates" in parts:
        table = parts["candidates"].body.getvalue()
        how = await with_candidates_of(how, table, settings, readers)
    return Submission(
        content=parts["exposure"].body.getvalue(),
        filename=printable(parts["exposure"].filename),
        **planes,
        request=how,
    )


async def read_stamps_form(
    request: Request[Any, Any, Any], settings: GatewaySettings, place: Place
) -> StampSubmission:
    """What a form wants scored: a cube of stamps.

    Raises
    ------
    BusyError, LimitError, MediaTypeError, MalformedBodyError, UploadTimeoutError, InputError
        As `read_infer_form` does.
    """
    kind, options = request.content_type
    if kind != "multipart/form-data":
        raise MediaTypeError("send multipart/form-data with the cube as the part `stamps`")
    bounds = {"stamps": settings.max_bytes, "request": settings.max_request_part}
    async with _arriving(settings):
        stream = _holding(request, settings, place)
        parts = await _read_parts(stream, options.get("boundary", ""), bounds)
    if "stamps" not in parts:
        raise InputError(
            "missing-part",
            "stamps",
            "send a cube as the part `stamps`: FITS or .npy, of the axes stamps, rows, columns",
        )
    how = InferStamps()
    if "request" in parts:
        how = _decode(parts["request"].body.getvalue(), InferStamps)
    return StampSubmission(content=parts["stamps"].body.getvalue(), request=how)


@asynccontextmanager
async def _arriving(settings: GatewaySettings) -> AsyncIterator[None]:
    """Bound the time of a body's arrival, and say what is wrong with one."""
    try:
        async with asyncio.timeout(settings.upload_timeout):
            yield
    except TimeoutError:
        raise UploadTimeoutError(f"the body took over {settings.upload_timeout:g} s") from None
    except RequestEntityTooLarge:
        raise TooLargeError("exposure", f"the body has over {settings.max_body} bytes") from None
    except MultipartError as error:
        raise MalformedBodyError(f"not a multipart form: {error}") from error
    except InternalServerException as error:
        raise MalformedBodyError(f"the body broke off: {error.detail}") from error


async def with_candidates_of(
    request: InferRequest,
    table: bytes,
    settings: GatewaySettings,
    readers: Readers,
    field: str = "candidates",
) -> InferRequest:
    """A request with the candidates of a table, which came in a field or part of this name.

    Raises
    ------
    InputError
        If the request has candidates already, or the table has none that can be read.
    """
    if request.candidates is not None:
        raise InputError(
            "invalid-request", field, "send candidates in the request or as a table, not as both"
        )
    most, size = settings.max_candidates, settings.max_request_part
    try:
        async with readers.session() as session:
            candidates = await session.read_table(table, most, size)
    except InputError as error:
        error.field = error.field.replace("candidates", field, 1)
        raise
    return msgspec.structs.replace(request, candidates=candidates)


async def _holding(
    request: Request[Any, Any, Any], settings: GatewaySettings, place: Place
) -> AsyncIterator[bytes]:
    """The body, which the place holds as it comes."""
    said = request.headers.get("content-length")
    if said is not None and int(said) > settings.max_body:
        raise RequestEntityTooLarge
    came = 0
    async for chunk in request.stream():
        came += len(chunk)
        if came > settings.max_body:
            raise RequestEntityTooLarge
        place.hold(len(chunk))
        yield chunk


async def _fetch(
    given: InferByReference,
    settings: GatewaySettings,
    objects: ObjectStore,
    readers: Readers,
    place: Place,
) -> Submission:
    async def read(field: str, url: str) -> bytes:
        return await objects.read(url, field, settings.max_bytes, place.hold)

    how = InferRequest(**{name: getattr(given, name) for name in InferRequest.__struct_fields__})
    if given.candidates_table is not None:
        table = await objects.read(
            given.candidates_table, "candidates_table", settings.max_request_part, place.hold
        )
        how = await with_candidates_of(how, table, settings, readers, "candidates_table")
    return Submission(
        content=await read("exposure", given.exposure),
        filename=printable(given.exposure.rpartition("/")[2]),
        **{
            field: await read(field, url)
            for field in PLANE_FIELDS
            if (url := getattr(given, field)) is not None
        },
        request=how,
    )


async def _read_whole(stream: AsyncIterable[bytes], most: int) -> bytes:
    body = bytearray()
    async for chunk in stream:
        body += chunk
        if len(body) > most:
            raise TooLargeError("request", f"over {most} bytes")
    return bytes(body)


async def _read_parts(
    stream: AsyncIterable[bytes], boundary: str, bounds: Mapping[str, int]
) -> dict[str, _Part]:
    parts: dict[str, _Part] = {}
    name = ""
    with PushMultipartParser(boundary, max_segment_count=len(bounds)) as parser:
        async for chunk in stream:
            if not chunk:
                continue
            for event in parser.parse(chunk):
                if isinstance(event, MultipartSegment):
                    name = event.name or ""
                    if name not in bounds:
                        raise InputError(
                            "unknown-part", name, f"parts are {', '.join(bounds)}, not {name!r}"
                        )
                    if name in parts:
                        raise InputError("repeated-part", name, "send this part once")
                    parts[name] = _Part(event.filename, io.BytesIO())
                elif event:
                    body = parts[name].body
                    body.write(event)
                    if body.tell() > bounds[name]:
                        raise TooLargeError(name, f"over {bounds[name]} bytes")
    return parts


def decode_request(content: bytes) -> InferRequest:
    """The part ``request``.

    Raises
    ------
    InputError
        ``invalid-json`` or ``invalid-request``; it names the field.
    """
    return _decode(content, InferRequest)


def _decode(content: bytes, kind: type[_Request]) -> _Request:
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            "invalid-json", "request", f"{error}; JSON knows no NaN and no infinity: send null"
        ) from error


def validated(fields: dict[str, Any], kind: type[_Request]) -> _Request:
    """A request from its fields.

    Raises
    ------
    InputError
        ``invalid-request``; it names the field.
    """
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise _invalid(error) from error


def _invalid(error: msgspec.ValidationError) -> InputError:
    message = str(error)
    path = _PATH.search(message)
    field = path["path"] if path else ""
    if isinstance(cause := error.__cause__, FieldError):
        within = f"{field}.{cause.field}" if field else cause.field
        return InputError("invalid-request", within, cause.detail)
    if missing := _MISSING.search(message):
        field = f"{field}.{missing['name']}" if field else missing["name"]
    return InputError("invalid-request", field or "request", _PATH.sub("", message))
