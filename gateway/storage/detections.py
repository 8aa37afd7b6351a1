"""The table `detections`."""

from uuid import UUID

import msgspec

from gateway.schemas import ScoredDetection, StoredDetection
from gateway.storage.database import Connection

# The columns are the answer's fields, by the same names.
_COLUMNS = ScoredDetection.__struct_fields__


async def insert_detections(
    connection: Connection, run_id: UUID, detections: list[ScoredDetection]
) -> None:
    """Add the detections of a run, by COPY."""
    await connection.copy_records_to_table(
        "detections",
        columns=["run_id", *_COLUMNS],
        records=(
            (run_id, *(getattr(detection, column) for column in _COLUMNS))
            for detection in detections
        ),
    )


async def find_detection(connection: Connection, detection_id: UUID) -> StoredDetection | None:
    """A detection with what is known of its run; None if there is none of that id."""
    row = await connection.fetchrow(
        """
        SELECT d.*, r.created_at, r.threshold,
               r.exposure_name, r.exposure_hdu, r.exposure_digest, r.height, r.width,
               m.name AS model_name, m.version AS model_version, m.digest AS model_digest
        FROM detections d
        JOIN runs r ON r.id = d.run_id
        JOIN models m ON m.id = r.model_id
        WHERE d.id = $1
        """,
        detection_id,
    )
    if row is None:
        return None
    return msgspec.convert(
        {
            **row,
            "model": {field: row[f"model_{field}"] for field in ("name", "version", "digest")},
            "exposure": {
                "name": row["exposure_name"],
                "hdu": row["exposure_hdu"],
                "height": row["height"],
                "width": row["width"],
                "digest": row["exposure_digest"],
            },
        },
        StoredDetection,
    )
