"""What is wrong with a request's JSON is named by its field."""

import pytest

from astrotriton.detection.errors import InputError
from astrotriton.gateway.http.forms import decode_request


@pytest.mark.parametrize(
    ("content", "code", "field"),
    [
        (
            b'{"candidates": [{"x": 1, "y": 2}, {"x": "a", "y": 2}]}',
            "invalid-request",
            "candidates[1].x",
        ),
        (b'{"candidates": [{"x": 1}]}', "invalid-request", "candidates[0].y"),
        (b'{"candidates": [{"x": 1e999, "y": 1}]}', "invalid-request", "candidates[0].x"),
        (b'{"candidates": [{"x": true, "y": 1}]}', "invalid-request", "candidates[0].x"),
        (b'{"candidates": 5}', "invalid-request", "candidates"),
        (b'{"confidence_threshold": -1}', "invalid-request", "confidence_threshold"),
        (
            b'{"confidence_threshold": 0.5, "max_false_discovery_rate": 0.1}',
            "invalid-request",
            "confidence_threshold",
        ),
        (b'{"treshold": 1}', "invalid-request", "request"),
        (b"[]", "invalid-request", "request"),
        (b"", "invalid-json", "request"),
        (b"{", "invalid-json", "request"),
        (b'{"hdu": "\xff"}', "invalid-json", "request"),
        (b'{"candidates": [{"x": NaN, "y": 1}]}', "invalid-json", "request"),
    ],
)
def test_faults_are_named(content, code, field):
    with pytest.raises(InputError) as caught:
        decode_request(content)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert caught.value.detail
