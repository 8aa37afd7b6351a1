"""What can go wrong in the service, and how RFC 9457 problem details say it.

The ``type`` of a problem is ``urn:astrotriton:problem:<code>`` and stays what it is; titles and
details are for people and may be reworded.
"""

import logging
from collections.abc import Callable
from typing import Any, ClassVar

from litestar.exceptions import HTTPException, ValidationException
from litestar.plugins.problem_details import (
    ProblemDetailsConfig,
    ProblemDetailsException,
    ProblemDetailsPlugin,
)

from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.gateway.observability.metrics import PROBLEMS
from astrotriton.wire.problems import Problem

_log = logging.getLogger(__name__)

PROBLEM_PREFIX = "urn:astrotriton:problem:"


class GatewayError(Exception):
    """A request that the service cannot answer as asked.

    Attributes
    ----------
    status, code, title
        The HTTP status, the last part of the problem's ``type``, and its summary.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def members(self) -> dict[str, str]:
        """Further members of the problem."""
        return {}

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer."""
        return {}


class MalformedBodyError(GatewayError):
    """A body that is not the multipart form it should be."""

    status = 400
    code = "malformed-body"
    title = "The request body cannot be read"


class MediaTypeError(GatewayError):
    """A body of a kind that is not taken."""

    status = 415
    code = "unsupported-media-type"
    title = "The media type is not supported"


class EncodingError(MediaTypeError):
    """A body in an encoding that is not understood."""

    code = "unsupported-content-encoding"
    title = "The content encoding is not supported"

    @property
    def headers(self) -> dict[str, str]:
        """What is understood (RFC 9110, 12.5.3)."""
        return {"Accept-Encoding": "identity"}


class TransferError(GatewayError):
    """A body that is framed in a way that is not understood."""

    status = 501
    code = "unsupported-transfer-encoding"
    title = "The transfer encoding is not supported"


class UploadTimeoutError(GatewayError):
    """A body that arrives too slowly."""

    status = 408
    code = "upload-timeout"
    title = "The request body did not arrive in time"


class HeadersTooLargeError(GatewayError):
    """More headers, or larger ones, than are taken."""

    status = 431
    code = "headers-too-large"
    title = "The request's headers are too large"


class HeaderTimeoutError(GatewayError):
    """Headers that arrive too slowly."""

    status = 408
    code = "header-timeout"
    title = "The request's headers did not arrive in time"


class NotFoundError(GatewayError):
    """A resource that does not exist."""

    status = 404
    code = "not-found"
    title = "No such resource"


class VersionError(GatewayError):
    """A model version that cannot be routed to as asked.

    Parameters
    ----------
    field
        The part of the request that names the version.
    version
        The version.
    detail
        What keeps it.
    """

    status = 409
    code = "version-not-routable"
    title = "The model version cannot answer"

    def __init__(self, field: str, version: int, detail: str) -> None:
        super().__init__(f"version {version}: {detail}")
        self.field = field

    @property
    def members(self) -> dict[str, str]:
        """Names the part of the request."""
        return {"field": self.field}


class TooLittleDataError(GatewayError):
    """Something that there is too little data for, so far."""

    status = 409
    code = "too-little-data"
    title = "There is too little data for this"


class UnauthenticatedError(GatewayError):
    """A caller who does not say, or cannot show, who it is."""

    status = 401
    code = "unauthenticated"
    title = "Credentials are missing or not valid"

    @property
    def headers(self) -> dict[str, str]:
        """How to say it."""
        return {"WWW-Authenticate": "Bearer"}


class ForbiddenError(GatewayError):
    """A caller who may not do this."""

    status = 403
    code = "forbidden"
    title = "The credentials do not allow this"


class KeyReusedError(GatewayError):
    """An idempotency key that stands for another request."""

    status = 422
    code = "idempotency-key-reused"
    title = "The idempotency key was used for another request"


class NotAcceptableError(GatewayError):
    """An answer in a format that there is none in."""

    status = 406
    code = "not-acceptable"
    title = "There is no answer in an accepted format"


class ModelAnswerError(GatewayError):
    """An answer of the model that is not probabilities. Nothing of it is stored."""

    status = 502
    code = "model-answer-invalid"
    title = "The model gave an invalid answer"


class RetryLaterError(GatewayError):
    """A fault that may pass; the answer carries ``Retry-After``."""

    status = 503
    retry_after: int = 5

    @property
    def headers(self) -> dict[str, str]:
        """When to come back."""
        return {"Retry-After": str(self.retry_after)}


class ClientGoneError(GatewayError):
    """A caller who has left before the answer."""

    status = 499
    code = "client-gone"
    title = "The caller has left"


class DeadlineError(GatewayError):
    """More work than fits into the time that the caller gave."""

    status = 504
    code = "deadline-exceeded"
    title = "The deadline has passed"


class LimitError(RetryLaterError):
    """A caller who asks for more than its share.

    Parameters
    ----------
    detail
        What is too much.
    retry_after
        Seconds to wait.
    """

    status = 429
    code = "too-many-requests"
    title = "The caller's limit is reached"

    def __init__(self, detail: str, retry_after: int) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class RunGivenUpError(RetryLaterError):
    """A run that was begun and not completed. Nothing of it is stored."""

    code = "run-given-up"
    title = "The run was given up"


class RunCancelledError(GatewayError):
    """A run that somebody has cancelled. Nothing of it is stored."""

    status = 409
    code = "run-cancelled"
    title = "The run was cancelled"


class RunEndedError(GatewayError):
    """A run that cannot be cancelled any more."""

    status = 409
    code = "run-ended"
    title = "The run has ended"


class BusyError(RetryLaterError):
    """More requests than the service takes at a time."""

    code = "busy"
    title = "The service is full"


class DependencyError(RetryLaterError):
    """Something that the service depends on does not answer as it should.

    Parameters
    ----------
    dependency
        Which: ``triton``, ``postgresql``, ``model_repository``, ``s3``, ``oidc`` or ``readers``.
    detail
        What happened.
    """

    code = "dependency-unavailable"
    title = "A part that the service depends on is not available"

    def __init__(self, dependency: str, detail: str) -> None:
        super().__init__(f"{dependency}: {detail}")
        self.dependency = dependency

    @property
    def members(self) -> dict[str, str]:
        """Names the dependency."""
        return {"dependency": self.dependency}


class ModelNotServedError(RetryLaterError):
    """No usable version of the model is served. Other weights are never used instead."""

    code = "model-not-served"
    title = "The model is not served"


def _problem(
    code: str, title: str, status: int, detail: str, **members: str
) -> ProblemDetailsException:
    return ProblemDetailsException(
        type_=PROBLEM_PREFIX + code,
        title=title,
        status_code=status,
        detail=detail,
        extra=dict(members),
    )


def _from_input_error(error: InputError) -> ProblemDetailsException:
    PROBLEMS.labels(error.code).inc()
    too_large = isinstance(error, TooLargeError)
    return _problem(
        error.code,
        "The input is too large" if too_large else "The input cannot be scored",
        413 if too_large else 422,
        error.detail,
        field=error.field,
    )


def _from_gateway_error(error: GatewayError) -> ProblemDetailsException:
    PROBLEMS.labels(error.code).inc()
    problem = _problem(error.code, error.title, error.status, error.detail, **error.members)
    if error.status >= 500:
        _log.warning("problem %d: %s", error.status, error)
    problem.headers = error.headers
    return problem


def _from_http_exception(error: HTTPException) -> ProblemDetailsException:
    code, title = HTTP_PROBLEMS.get(error.status_code, ("http-error", "The request failed"))
    problem = _problem(code, title, error.status_code, error.detail)
    problem.headers = error.headers
    return problem


def _from_validation_exception(error: ValidationException) -> ProblemDetailsException:
    """Of a query or a body that Litestar has decoded."""
    faults = [fault for fault in error.extra or () if isinstance(fault, dict)]
    first: dict[str, str] = faults[0] if faults else {}
    field = first.get("key") or first.get("source") or "request"
    return _problem(
        "invalid-request",
        "The request is not valid",
        422,
        first.get("message", error.detail),
        field=str(getattr(field, "value", field)),
    )


def _from_recursion(error: RecursionError) -> ProblemDetailsException:
    """Of a body; nothing else here is nested."""
    return _from_gateway_error(MalformedBodyError("the JSON is nested too deeply"))


def _from_exception(error: Exception) -> ProblemDetailsException:
    _log.error("unforeseen %s", type(error).__name__, exc_info=error)
    return _problem(
        "internal-error",
        "The service failed",
        500,
        "An unforeseen error, which the service has logged under the request's id.",
    )


HTTP_PROBLEMS = {
    400: ("bad-request", "The request is not valid"),
    404: (NotFoundError.code, NotFoundError.title),
    405: ("method-not-allowed", "The method is not allowed here"),
    413: ("too-large", "The input is too large"),
    415: (MediaTypeError.code, MediaTypeError.title),
}

_PROBLEMS: dict[type[Exception], Callable[[Any], ProblemDetailsException]] = {
    InputError: _from_input_error,
    GatewayError: _from_gateway_error,
    ValidationException: _from_validation_exception,
    HTTPException: _from_http_exception,
    RecursionError: _from_recursion,
    Exception: _from_exception,
}

problem_details = ProblemDetailsPlugin(
    ProblemDetailsConfig(exception_to_problem_detail_map=_PROBLEMS)
)


def problem_of(error: BaseException) -> Problem:
    """What an answer would say of an error."""
    kind = next(kind for kind in type(error).__mro__ if kind in _PROBLEMS)
    found = _PROBLEMS[kind](error)
    extra = found.extra if isinstance(found.extra, dict) else {}
    return Problem(
        type=found.type_ or "about:blank",
        title=found.title or "",
        status=found.status_code,
        detail=found.detail,
        **extra,
    )
