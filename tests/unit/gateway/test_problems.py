"""Errors as problem details."""

import pytest
from litestar import get
from litestar.testing import create_test_client

from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.gateway.errors import (
    BusyError,
    DependencyError,
    MalformedBodyError,
    ModelAnswerError,
    ModelNotServedError,
    NotFoundError,
    problem_details,
)

FAULTS = [
    (InputError("not-fits", "exposure", "what"), 422, "not-fits", {"field": "exposure"}),
    (TooLargeError("candidates", "what"), 413, "too-large", {"field": "candidates"}),
    (MalformedBodyError("what"), 400, "malformed-body", {}),
    (NotFoundError("what"), 404, "not-found", {}),
    (ModelAnswerError("what"), 502, "model-answer-invalid", {}),
    (BusyError("what"), 503, "busy", {}),
    (ModelNotServedError("what"), 503, "model-not-served", {}),
    (DependencyError("triton", "what"), 503, "dependency-unavailable", {"dependency": "triton"}),
    (RuntimeError("a secret"), 500, "internal-error", {}),
]


@pytest.mark.parametrize(("error", "status", "code", "members"), FAULTS)
def test_a_fault_says_what_it_is(error, status, code, members):
    @get("/", sync_to_thread=False)
    def fail() -> None:
        raise error

    with create_test_client([fail], plugins=[problem_details], logging_config=None) as client:
        response = client.get("/")
    problem = response.json()
    assert response.status_code == problem["status"] == status
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["type"] == f"urn:astrotriton:problem:{code}"
    assert problem["title"]
    assert "secret" not in response.text
    assert {**problem, **members} == problem
    assert ("retry-after" in response.headers) == (status == 503)
