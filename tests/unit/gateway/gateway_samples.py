"""Answers as the service gives them."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec

from astrotriton.gateway.http.examples import RESPONSE
from astrotriton.wire.runs import InferResponse


def run(detections: int) -> InferResponse:
    """A run whose detections are all real, by falling confidence."""
    example = msgspec.convert(RESPONSE, InferResponse)
    return msgspec.structs.replace(
        example,
        created_at=datetime(2026, 11, 24, tzinfo=UTC),
        detections=[
            msgspec.structs.replace(
                example.detections[0],
                id=UUID(int=i + 1),
                rank=i + 1,
                candidate_id=f"candidate {i}",
                x=100.0 + i,
                y=200.0,
                probability=0.9,
                confidence=1.0 - i / detections,
            )
            for i in range(detections)
        ],
    )
