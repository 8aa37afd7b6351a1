"""Looking detections up, explaining them, and labelling them."""

from math import isfinite
from uuid import UUID

import msgspec
from asyncpg import Record
from uuid_utils.compat import uuid7

from astrotriton.detection.card import ModelCard
from astrotriton.detection.errors import CardError
from astrotriton.detection.image.cutouts import png
from astrotriton.detection.scoring.score import TTA_VIEWS
from astrotriton.gateway.compute import compute
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.detections import (
    Filter as Filter,
)
from astrotriton.gateway.storage.detections import (
    find_cutout,
    find_detection,
    list_detections,
    set_label,
    stored_detection,
)
from astrotriton.gateway.storage.models import find_card
from astrotriton.gateway.storage.runs import guarantee_of
from astrotriton.wire.confidence import Derivation, Guarantee
from astrotriton.wire.detections import (
    ConfidenceDerivation,
    DetectionPage,
    LabelIn,
    StoredDetection,
)

_AS_ANSWERED = frozenset(ConfidenceDerivation.__struct_fields__) & frozenset(
    StoredDetection.__struct_fields__
)


class DetectionService:
    """Reads what was scored."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, detection_id: UUID) -> StoredDetection:
        """A detection.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        """
        return stored_detection(await self._row(detection_id))

    async def find(self, wanted: Filter, after: UUID | None, limit: int) -> DetectionPage:
        """The newest detections that match, a page of them from one on."""
        async with self._database.transaction() as connection:
            found = await list_detections(connection, wanted, after, limit + 1)
        page = found[:limit]
        return DetectionPage(detections=page, next=page[-1].id if len(found) > limit else None)

    async def explain(self, detection_id: UUID) -> ConfidenceDerivation:
        """How a detection's confidence came about.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        """
        row = await self._row(detection_id)
        async with self._database.transaction() as connection:
            card = await find_card(connection, row["model_id"])
        detection = stored_detection(row)
        return ConfidenceDerivation(
            detection_id=detection.id,
            derivation=_derivation(row, card),
            tta=row["tta"],
            guarantee=msgspec.convert(guarantee_of(row), Guarantee | None),
            **{name: getattr(detection, name) for name in _AS_ANSWERED},
        )

    async def label(self, detection_id: UUID, given: LabelIn, author: str) -> StoredDetection:
        """Label a detection; who said so is kept for good.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        """
        async with self._database.transaction() as connection:
            known = await set_label(
                connection, uuid7(), detection_id, given.label, given.comment, author
            )
        if not known:
            raise _unknown(detection_id)
        return await self.get(detection_id)

    async def cutout(self, detection_id: UUID) -> bytes:
        """A picture of a detection, PNG.

        Raises
        ------
        NotFoundError
            If there is no detection of that id, or no picture of it was kept.
        """
        async with self._database.transaction() as connection:
            kept = await find_cutout(connection, detection_id)
        if kept is None:
            raise NotFoundError(
                f"no cut-out of a detection {detection_id}: only those of the most confident "
                "detections of a run are kept"
            )
        if kept["png"] is not None:
            return bytes(kept["png"])
        return await compute(png, kept["pixels"])

    async def _row(self, detection_id: UUID) -> Record:
        async with self._database.transaction() as connection:
            row = await find_detection(connection, detection_id)
        if row is None:
            raise _unknown(detection_id)
        return row


def _unknown(detection_id: UUID) -> NotFoundError:
    return NotFoundError(f"no detection has the id {detection_id}")


def _derivation(row: Record, content: str) -> Derivation | None:
    try:
        card = ModelCard.from_json(content)
    except CardError:
        # Stored by an earlier release, whose confidence was made otherwise.
        return None
    model = card.confidence_for(TTA_VIEWS if row["tta"] else 1)
    if model is None or row["features"] is None:
        return None
    features = zip(model.names, row["features"], strict=True)
    return model.explain({name: value for name, value in features if isfinite(value)})
