"""Between gRPC's messages and the types of the services."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet  # type: ignore[import-not-found]

from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.image.planes import PLANE_FIELDS
from astrotriton.gateway.compute import compute
from astrotriton.gateway.http.forms import validated, with_candidates_of
from astrotriton.gateway.readers.pool import Readers
from astrotriton.gateway.rpc.detections_pb2 import Candidate, Detection, InferRequest, Run
from astrotriton.gateway.services.inference import Submission
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.wire.detections import ScoredDetection
from astrotriton.wire.fields import printable
from astrotriton.wire.runs import InferRequest as Request
from astrotriton.wire.runs import InferResponse

_FILES = ("exposure", *PLANE_FIELDS)
_TABLE = "candidates_table"
_CHOICES = ("hdu", *(f"{field}_hdu" for field in PLANE_FIELDS), "model_version", "prevalence")


async def to_submission(
    pieces: list[bytes], settings: GatewaySettings, readers: Readers
) -> Submission:
    """What a request wants scored, checked as over HTTP.

    Parameters
    ----------
    pieces
        An `InferRequest` as it came, and further ones that continue its files. They are taken out
        of the list, so that an exposure is not in memory both as it came and as it is scored.
    settings
        Have the bytes that a file may have, and the candidates.
    readers
        Read a table of candidates.

    Raises
    ------
    InputError
        If it is none, or a field is not what it should be.
    """
    submission, table = await compute(_decoded, pieces, settings)
    if table is None:
        return submission
    how = await with_candidates_of(submission.request, table, settings, readers, _TABLE)
    return replace(submission, request=how)


def _decoded(pieces: list[bytes], settings: GatewaySettings) -> tuple[Submission, bytes | None]:
    """What it wants scored, and its table of candidates, not read yet."""
    pieces.reverse()
    first = _parsed(pieces.pop())
    fields: dict[str, Any] = {field.name: value for field, value in first.ListFields()}
    files = {name: [fields.pop(name)] for name in (*_FILES, _TABLE) if name in fields}
    while pieces:
        for field, value in _parsed(pieces.pop()).ListFields():
            if field.name not in (*_FILES, _TABLE):
                raise InputError(
                    "invalid-request", field.name, "send this in the first message, once"
                )
            files.setdefault(field.name, []).append(value)
    for name, parts in files.items():
        if name != _TABLE and sum(map(len, parts)) > settings.max_bytes:
            raise TooLargeError(name, f"over {settings.max_bytes} bytes")
    content = {name: b"".join(files.pop(name)) for name in list(files)}
    request = {name: value for name, value in fields.items() if name != "filename"}
    for name in _CHOICES:
        if name in request:
            which = request[name].WhichOneof("which")
            request[name] = None if which is None else getattr(request[name], which)
    if "candidates" in request:
        request["candidates"] = [_candidate(given) for given in request["candidates"].items]
    for name, value in request.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError("invalid-request", name, "give a finite number")
    how = validated(request, Request)
    submission = Submission(
        content=content.get("exposure", b""),
        filename=printable(first.filename),
        **{field: content.get(field) for field in PLANE_FIELDS},
        request=how,
    )
    return submission, content.get(_TABLE)


def _parsed(content: bytes) -> InferRequest:
    try:
        message = InferRequest.FromString(content)
    except DecodeError as error:
        raise InputError("invalid-message", "request", f"no InferRequest: {error}") from error
    for unknown in UnknownFieldSet(message):
        raise InputError("invalid-request", str(unknown.field_number), "no field has this number")
    for field, value in message.ListFields():
        if isinstance(value, Message):
            known = type(value).FromString(value.SerializeToString())
            known.DiscardUnknownFields()  # type: ignore[attr-defined]
            if known.ByteSize() != value.ByteSize():
                raise InputError("invalid-request", field.name, "it has fields that are not known")
    return message


def _candidate(given: Candidate) -> dict[str, Any]:
    return {field.name: value for field, value in given.ListFields()}


def from_run(run: InferResponse) -> Run:
    """A run without its detections."""
    fields = msgspec.to_builtins(msgspec.structs.replace(run, detections=[]))
    del fields["detections"]
    return ParseDict(_known(fields), Run())


def from_detections(detections: Sequence[ScoredDetection]) -> list[Detection]:
    """Detections."""
    return [Detection(**_known(msgspec.to_builtins(detection))) for detection in detections]


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
