"""Between gRPC's messages and the types of the services."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.gateway.http.forms import validated, with_candidates_of
from astrotriton.gateway.rpc.detections_pb2 import Candidate, Detection, InferRequest, Run
from astrotriton.gateway.services.inference import Submission
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.wire.detections import ScoredDetection
from astrotriton.wire.fields import printable
from astrotriton.wire.runs import InferRequest as Request
from astrotriton.wire.runs import InferResponse

_FILES = ("exposure", "mask", "weight", "psf")
_CHOICES = ("hdu", "mask_hdu", "weight_hdu", "psf_hdu", "model_version")


def to_submission(content: bytes, settings: GatewaySettings) -> Submission:
    """What a request wants scored, checked as over HTTP.

    Parameters
    ----------
    content
        An `InferRequest` as it came.
    settings
        Have the bytes that a file may have, and the candidates.

    Raises
    ------
    InputError
        If it is none, or a field is not what it should be.
    """
    try:
        message = InferRequest.FromString(content)
    except DecodeError as error:
        raise InputError("invalid-message", "request", f"no InferRequest: {error}") from error
    fields: dict[str, Any] = {field.name: value for field, value in message.ListFields()}
    for name in _FILES:
        if len(fields.get(name, b"")) > settings.max_bytes:
            raise TooLargeError(name, f"over {settings.max_bytes} bytes")
    table = fields.pop("candidates_table", None)
    request = {name: value for name, value in fields.items() if name not in (*_FILES, "filename")}
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
    if table is not None:
        how = with_candidates_of(how, table, settings, "candidates_table")
    return Submission(
        content=message.exposure,
        filename=printable(message.filename),
        mask=fields.get("mask"),
        weight=fields.get("weight"),
        psf=fields.get("psf"),
        request=how,
    )


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
