"""Lists of labels, out of the table `labels`."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from astrotriton.gateway.storage.database import Connection
from astrotriton.wire.detections import Label
from astrotriton.wire.labels import StoredLabel

# A label counts until the same person says something else of the same detection.
_CURRENT = """
    l.label IS NOT NULL AND NOT EXISTS (
        SELECT FROM labels n
        WHERE n.detection_id = l.detection_id AND n.author = l.author AND n.id > l.id
    )
"""


class LabelFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which labels are looked for; None: any.

    ``since`` and ``until`` bound when they were given. Without ``history``, what each person said
    of a detection last counts, and a label that was taken back is none.
    """

    label: Label | None = None
    author: str | None = None
    run_id: UUID | None = None
    exposure: str | None = None
    model_version: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    history: bool = False


async def list_given(
    connection: Connection, wanted: LabelFilter, after: UUID | None, limit: int
) -> list[StoredLabel]:
    """The labels that match, the earliest first, from one on."""
    values: list[Any] = []
    conditions = []
    for condition, value in (
        ("l.id > {}", after),
        ("l.label = {}", wanted.label),
        ("l.author = {}", wanted.author),
        ("d.run_id = {}", wanted.run_id),
        ("r.exposure_name = {}", wanted.exposure),
        ("m.version = {}", wanted.model_version),
        ("l.created_at >= to_timestamp({}::float8)", wanted.since and wanted.since.timestamp()),
        ("l.created_at < to_timestamp({}::float8)", wanted.until and wanted.until.timestamp()),
    ):
        if value is not None:
            values.append(value)
            conditions.append(condition.format(f"${len(values)}"))
    if not wanted.history:
        conditions.append(_CURRENT)
    rows = await connection.fetch(
        f"""
        SELECT l.id, l.detection_id, l.label, l.author, l.created_at, l.comment,
               d.run_id, r.exposure_name AS exposure, r.observed_at,
               m.name AS model_name, m.version AS model_version,
               d.x, d.y, d.ra, d.dec, d.snr, d.confidence, r.threshold, d.is_real
        FROM labels l JOIN detections d ON d.id = l.detection_id
        JOIN runs r ON r.id = d.run_id JOIN models m ON m.id = r.model_id
        WHERE {" AND ".join(conditions) or "true"}
        ORDER BY l.id LIMIT ${len(values) + 1}
        """,
        *values,
        limit,
    )
    return [msgspec.convert(dict(row), StoredLabel) for row in rows]
