"""Reading the multipart form of an upload, within bounds and without a copy on disk."""

import asyncio
import io
import re
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import InternalServerException
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
)

from detection.errors import InputError, TooLargeError
from gateway.config import Settings
from gateway.errors import MalformedBodyError, MediaTypeError, UploadTimeoutError
from gateway.schemas import InferRequest

_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"missing required field `(?P<name>\w+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class InferForm:
    """The form of ``POST /detections/infer``."""

    content: bytes
    filename: str | None
    request: InferRequest


@dataclass(slots=True)
class _Part:
    filename: str | None
    body: io.BytesIO


async def read_infer_form(request: Request[Any, Any, Any], settings: Settings) -> InferForm:
    """The parts ``exposure`` and ``request`` of a request's body.

    Raises
    ------
    MediaTypeError, MalformedBodyError, UploadTimeoutError
        If the body is no multipart form, breaks off, or comes too slowly.
    InputError
        If a part is missing, unknown, too large, or not what it should be; it names the field.
    """
    kind, options = request.content_type
    if kind != "multipart/form-data":
        raise MediaTypeError("send multipart/form-data with the file as the part `exposure`")
    bounds = {"exposure": settings.max_bytes, "request": settings.max_request_part}
    try:
        async with asyncio.timeout(settings.upload_timeout):
            parts = await _read_parts(request.stream(), options.get("boundary", ""), bounds)
    except TimeoutError:
        raise UploadTimeoutError(f"the body took over {settings.upload_timeout:g} s") from None
    except RequestEntityTooLarge:
        raise TooLargeError("exposure", f"the body has over {settings.max_body} bytes") from None
    except MultipartError as error:
        raise MalformedBodyError(f"not a multipart form: {error}") from error
    except InternalServerException as error:
        raise MalformedBodyError(f"the body broke off: {error.detail}") from error

    if "exposure" not in parts:
        raise InputError("missing-part", "exposure", "send the file as the part `exposure`")
    exposure = parts["exposure"]
    return InferForm(
        content=exposure.body.getvalue(),
        filename=_printable(exposure.filename),
        request=decode_request(parts["request"].body.getvalue())
        if "request" in parts
        else InferRequest(),
    )


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
                            "unknown-part", name, f"parts are {' and '.join(bounds)}, not {name!r}"
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
    try:
        return msgspec.json.decode(content, type=InferRequest)
    except msgspec.ValidationError as error:
        message = str(error)
        path = _PATH.search(message)
        field = path["path"] if path else ""
        if missing := _MISSING.search(message):
            field = f"{field}.{missing['name']}" if field else missing["name"]
        detail = _PATH.sub("", message)
        raise InputError("invalid-request", field or "request", detail) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            "invalid-json", "request", f"{error}; numbers must be finite: JSON knows no NaN"
        ) from error


def _printable(filename: str | None) -> str | None:
    """A file's name, as far as it may be stored and shown."""
    return "".join(filter(str.isprintable, filename or ""))[:200] or None
