"""What is wrong with a request's JSON is named by its field."""

import pytest

from astrotriton.detection.errors import InputError
from astrotriton.gateway.http.forms import decode_request, validated, with_candidates_of
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.wire.detections import CandidateIn
from astrotriton.wire.runs import InferByReference, InferRequest
from tests.unit.gateway.services.stand_ins import ReadHere


@pytest.mark.parametrize(
    ("content", "code", "field"),
    [
        (
            b'{"candidates": [{"x": 1, "y": 2}, {"x": "a", "y": 2}]}',
            "invalid-request",
            "candidates[1].x",
        ),
        (b'{"candidates": [{"x": 1}]}', "invalid-request", "candidates[0].y"),
        (b'{"candidates": [{"y": null}]}', "invalid-request", "candidates[0].x"),
        (b'{"candidates": [{"ra": 1}]}', "invalid-request", "candidates[0].dec"),
        (b'{"candidates": [{"x": 1, "y": 2}, {}]}', "invalid-request", "candidates[1].x"),
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


async def test_candidates_come_once(tmp_path):
    settings = GatewaySettings(database_url="postgresql://nobody@127.0.0.1/nothing")
    table = b"id,X_IMAGE,Y_IMAGE\na,1,2\nb,nan,3\n"
    read = await with_candidates_of(InferRequest(tta=True), table, settings, ReadHere())
    assert read == InferRequest(
        tta=True,
        candidates=[CandidateIn(id="a", x=0.0, y=1.0), CandidateIn(id="b", x=None, y=2.0)],
    )
    with pytest.raises(InputError, match="not as both") as refused:
        await with_candidates_of(InferRequest(candidates=[]), table, settings, ReadHere())
    assert refused.value.field == "candidates"
    by_reference = {"exposure": "s3://a/b", "candidates_table": "s3://a/c", "candidates": []}
    with pytest.raises(InputError) as refused:
        validated(by_reference, InferByReference)
    assert refused.value.field == "candidates_table"
