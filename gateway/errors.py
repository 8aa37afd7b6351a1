"""What can go wrong in the service, and how RFC 9457 problem details say it.

The ``type`` of a problem is ``urn:astrotriton:problem:<code>`` and stays what it is; titles and
details are for people and may be reworded.
"""

import logging
from typing import ClassVar

from litestar.exceptions import HTTPException
from litestar.plugins.problem_details import (
    ProblemDetailsConfig,
    ProblemDetailsException,
    ProblemDetailsPlugin,
)

from detection.errors import InputError, TooLargeError

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


class UploadTimeoutError(GatewayError):
    """A body that arrives too slowly."""

    status = 408
    code = "upload-timeout"
    title = "The request body did not arrive in time"


class NotFoundError(GatewayError):
    """A resource that does not exist."""

    status = 404
    code = "not-found"
    title = "No such resource"


class ModelAnswerError(GatewayError):
    """An answer of the model that is not probabilities. Nothing of it is stored."""

    status = 502
    code = "model-answer-invalid"
    title = "The model gave an invalid answer"


class RetryLaterError(GatewayError):
    """A fault that may pass; the answer carries ``Retry-After``."""

    status = 503
    retry_after: ClassVar[int] = 5


class BusyError(RetryLaterError):
    """More requests than the service takes at a time."""

    code = "busy"
    title = "The service is full"


class DependencyError(RetryLaterError):
    """Something that the service depends on does not answer as it should.

    Parameters
    ----------
    dependency
        Which: ``triton``, ``postgresql`` or ``model_repository``.
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
    too_large = isinstance(error, TooLargeError)
    return _problem(
        error.code,
        "The input is too large" if too_large else "The input cannot be scored",
        413 if too_large else 422,
        error.detail,
        field=error.field,
    )


def _from_gateway_error(error: GatewayError) -> ProblemDetailsException:
    problem = _problem(error.code, error.title, error.status, error.detail, **error.members)
    if error.status >= 500:
        _log.warning("answered %d: %s", error.status, error)
    if isinstance(error, RetryLaterError):
        problem.headers = {"Retry-After": str(error.retry_after)}
    return problem


def _from_http_exception(error: HTTPException) -> ProblemDetailsException:
    code, title = _HTTP_PROBLEMS.get(error.status_code, ("http-error", "The request failed"))
    problem = _problem(code, title, error.status_code, error.detail)
    problem.headers = error.headers
    return problem


def _from_exception(error: Exception) -> ProblemDetailsException:
    _log.error("unforeseen %s", type(error).__name__, exc_info=error)
    return _problem(
        "internal-error",
        "The service failed",
        500,
        "An unforeseen error, which the service has logged under the request's id.",
    )


_HTTP_PROBLEMS = {
    400: ("bad-request", "The request is not valid"),
    404: (NotFoundError.code, NotFoundError.title),
    405: ("method-not-allowed", "The method is not allowed here"),
    413: ("too-large", "The input is too large"),
    415: (MediaTypeError.code, MediaTypeError.title),
}

problem_details = ProblemDetailsPlugin(
    ProblemDetailsConfig(
        exception_to_problem_detail_map={
            InputError: _from_input_error,
            GatewayError: _from_gateway_error,
            HTTPException: _from_http_exception,
            Exception: _from_exception,
        }
    )
)
