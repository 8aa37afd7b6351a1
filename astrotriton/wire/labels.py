"""Labels as they are got out: what was said, of what, by whom and when."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from astrotriton.wire.detections import Label


class StoredLabel(msgspec.Struct, frozen=True, kw_only=True):
    """A label that somebody gave, with the detection that it is of."""

    id: Annotated[UUID, Meta(description="Of the label; its order is that of time.")]
    detection_id: UUID
    label: Annotated[Label | None, Meta(description="Null: this person took their label back.")]
    author: Annotated[str, Meta(description="Who said so: the key or the person of a token.")]
    created_at: Annotated[datetime, Meta(description="When, UTC.")]
    comment: str | None
    run_id: UUID
    exposure: Annotated[str | None, Meta(description="Name of the exposure.")]
    observed_at: Annotated[datetime | None, Meta(description="Mid-exposure, UTC.")]
    model_name: str
    model_version: int
    x: Annotated[float | None, Meta(description="Pixels, 0-based.")]
    y: Annotated[float | None, Meta(description="Pixels, 0-based.")]
    ra: Annotated[float | None, Meta(description="ICRS, degrees.")]
    dec: Annotated[float | None, Meta(description="ICRS, degrees.")]
    snr: float | None
    confidence: float | None
    threshold: Annotated[float, Meta(description="Least confidence of what is called real.")]
    is_real: Annotated[bool, Meta(description="What the version called it.")]


class LabelPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the labels that match."""

    labels: list[StoredLabel]
    next: Annotated[
        UUID | None, Meta(description="`after` of the following page; null: there is none.")
    ]
