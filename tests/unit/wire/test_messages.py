"""The wire types."""

import msgspec
import pytest

from astrotriton.gateway.http.examples import REQUEST, RESPONSE
from astrotriton.wire.detections import Candidate, Detection, ScoredDetection
from astrotriton.wire.runs import InferRequest, InferResponse


def test_an_answer_holds_everything_that_a_detection_does():
    assert set(ScoredDetection.__struct_fields__) >= {"id", "rank", *Detection.__struct_fields__}


def test_the_examples_are_valid():
    msgspec.convert(REQUEST, InferRequest)
    answer = msgspec.convert(RESPONSE, InferResponse)
    assert set(msgspec.to_builtins(answer)) == set(RESPONSE)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (b"{}", None),
        (b'{"candidates": []}', []),
        (
            b'{"candidates": [{"x": 1, "y": 2}, {"x": 3, "y": 4, "id": 77}]}',
            [Candidate(id="0", x=1.0, y=2.0), Candidate(id="77", x=3.0, y=4.0)],
        ),
    ],
)
def test_candidates_get_an_id(given, expected):
    assert msgspec.json.decode(given, type=InferRequest).to_candidates() == expected
