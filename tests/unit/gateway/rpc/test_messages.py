"""Between gRPC's messages and the types of the services."""

from astrotriton.gateway.rpc.detections_pb2 import InferRequest
from astrotriton.gateway.rpc.messages import to_submission
from astrotriton.gateway.settings import GatewaySettings
from tests.unit.gateway.services.stand_ins import ReadHere


async def test_pieces_are_put_together_and_not_kept():
    first = InferRequest(exposure=b"ab", mask=b"1", filename="night.fits")
    rest = [InferRequest(exposure=b"cd"), InferRequest(mask=b"2", exposure=b"e")]
    pieces = [message.SerializeToString() for message in (first, *rest)]
    settings = GatewaySettings(database_url="postgresql://nowhere", auth="off")
    submission = await to_submission(pieces, settings, ReadHere())
    assert (submission.content, submission.mask) == (b"abcde", b"12")
    assert submission.filename == "night.fits"
    assert pieces == []
