"""Looking detections up, explaining them, and labelling them."""

from math import isfinite
from typing import NamedTuple
from uuid import UUID

import msgspec
from asyncpg import Record
from uuid_utils.compat import uuid7

from astrotriton.detection.card import ModelCard
from astrotriton.detection.errors import CardError, InputError
from astrotriton.detection.scoring.score import TTA_VIEWS
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.detections import (
    find_detection,
    list_detections,
    set_label,
    stored_detection,
)
from astrotriton.gateway.storage.listing import (
    Filter as Filter,
)
from astrotriton.gateway.storage.listing import (
    find_frontier,
    find_place,
)
from astrotriton.gateway.storage.models import find_card
from astrotriton.gateway.storage.runs import guarantee_of, prevalence_of
from astrotriton.wire.confidence import Derivation, Guarantee, Prevalence
from astrotriton.wire.detections import (
    ConfidenceDerivation,
    DetectionPage,
    LabelIn,
    Sort,
    StoredDetection,
)

_AS_ANSWERED = frozenset(ConfidenceDerivation.__struct_fields__) & frozenset(
    StoredDetection.__struct_fields__
)


class Beside(NamedTuple):
    """The detections before and after one in a list; None at its ends."""

    before: UUID | None
    after: UUID | None


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

    async def find(
        self, wanted: Filter, after: UUID | None, limit: int, sort: Sort = "newest"
    ) -> DetectionPage:
        """The detections that match, a page of them from one on.

        Raises
        ------
        InputError
            If no detection has the id of ``after``.
        """
        async with self._database.transaction() as connection:
            place = None if after is None else await find_place(connection, after)
            if after is not None and place is None:
                raise InputError("invalid-request", "after", f"no detection has the id {after}")
            if sort != "committed":
                found = await list_detections(connection, wanted, place, limit + 1, sort)
                page = found[:limit]
                return DetectionPage(
                    detections=page, next=page[-1].id if len(found) > limit else None
                )
            # Read first: all that is before it has been committed by now.
            frontier = await find_frontier(connection)
            if frontier is None:
                return DetectionPage(detections=[], next=after)
            found = await list_detections(
                connection, wanted, place, limit + 1, sort, until=frontier
            )
        page = found[:limit]
        if len(found) > limit:
            return DetectionPage(detections=page, next=page[-1].id)
        # Those that do not match need not be looked at again. An id that the caller has from
        # elsewhere may be of one that has been committed beyond the frontier.
        seen = place is not None and _standing(place) > _standing(frontier)
        return DetectionPage(detections=page, next=after if seen else frontier["id"])

    async def beside(self, detection_id: UUID, wanted: Filter, sort: Sort = "newest") -> Beside:
        """What comes before and after a detection in a list.

        It need not be in the list any more: whoever looks through what has no label and labels it
        goes on from there. On the way back labels do not count, so that one comes back to what one
        has just labelled.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        """
        back = msgspec.structs.replace(wanted, label=None) if wanted.label == "none" else wanted
        async with self._database.transaction() as connection:
            place = await find_place(connection, detection_id)
            if place is None:
                raise _unknown(detection_id)
            after = await list_detections(connection, wanted, place, 1, sort)
            before = await list_detections(connection, back, place, 1, sort, backwards=True)
        return Beside(before[0].id if before else None, after[0].id if after else None)

    async def frontier(self) -> UUID | None:
        """The last detection, in the order of commits, before which none can appear any more."""
        async with self._database.transaction() as connection:
            found = await find_frontier(connection)
        return None if found is None else found["id"]

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
            prevalence=_prevalence(row),
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

    async def _row(self, detection_id: UUID) -> Record:
        async with self._database.transaction() as connection:
            row = await find_detection(connection, detection_id)
        if row is None:
            raise _unknown(detection_id)
        return row


def _standing(place: Record) -> tuple[int, UUID, int]:
    return int(place["committed_in"]), place["run_id"], place["rank"]


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
    known = {name: value for name, value in features if isfinite(value)}
    return model.explain(known, _prevalence(row))


def _prevalence(row: Record) -> Prevalence | None:
    return msgspec.convert(prevalence_of(row), Prevalence | None)
