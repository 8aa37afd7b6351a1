"""What has been scored lately, as far as it says what share of the sources is real."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec
import numpy as np

from astrotriton.detection.arrays import Values
from astrotriton.detection.confidence.prevalence import LOG_RATIO_EDGES
from astrotriton.gateway.storage.database import Connection

# Of stamps, which have one source each, more runs are looked at than of exposures.
_MOST_RUNS, _ENOUGH_SOURCES, _MOST_SOURCES = 20_000, 20_000, 1_000_000


class RecentRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and what its confidences were calibrated with and shifted by."""

    id: UUID
    model_id: UUID
    tta: bool
    shift: float
    created_at: datetime


async def recent_runs(
    connection: Connection, name: str, exposures: int, age: timedelta, *, extracted: bool
) -> list[RecentRun]:
    """The newest runs of a model that are to be looked at, the newest first.

    Parameters
    ----------
    exposures
        Most of them, unless they hold few sources.
    age
        Of the oldest.
    extracted
        Those whose candidates the gateway extracted, or those whose candidates were sent.
    """
    rows = await connection.fetch(
        """
        SELECT id, model_id, tta, shift, created_at FROM (
            SELECT *, row_number() OVER newest AS place, sum(detections) OVER newest AS total
            FROM (
                SELECT r.id, r.model_id, r.tta, r.created_at, r.detections,
                    coalesce((r.prevalence->>'shift')::double precision, 0.0) AS shift
                FROM runs r JOIN models m ON m.id = r.model_id
                WHERE m.name = $1 AND r.extracted = $2
                    AND r.created_at > clock_timestamp() - $3::interval
                ORDER BY r.id DESC LIMIT $5
            ) recent
            WINDOW newest AS (ORDER BY id DESC ROWS UNBOUNDED PRECEDING)
        ) counted
        WHERE (place <= $4 OR total <= $6) AND total - detections < $7
        ORDER BY id DESC
        """,
        *(name, extracted, age, exposures, _MOST_RUNS, _ENOUGH_SOURCES, _MOST_SOURCES),
    )
    return [RecentRun(**row) for row in rows]


async def count_log_ratios(
    connection: Connection, runs: Sequence[UUID], offsets: Sequence[float]
) -> Values:
    """How many sources of each run have which log likelihood ratio, as `counted` counts them.

    Parameters
    ----------
    offsets
        Of each run, what is taken off the logits of its confidences: the shift that they had, and
        the log odds of the share that they were calibrated on.
    """
    counts = np.zeros((len(runs), len(LOG_RATIO_EDGES) - 1))
    rows = await connection.fetch(
        """
        SELECT place, bin, count(*) AS sources FROM (
            SELECT asked.place,
                width_bucket(
                    ln(sure / (1.0 - sure)) - asked.taken, $3::double precision,
                    $4::double precision, $5::int
                ) AS bin
            FROM unnest($1::uuid[], $2::double precision[]) WITH ORDINALITY
                AS asked (run_id, taken, place)
            JOIN detections d ON d.run_id = asked.run_id
            CROSS JOIN LATERAL (
                SELECT least(greatest(d.confidence, 1e-15), 1.0 - 1e-15) AS sure
            ) clipped
            WHERE d.outcome = 'kept' AND d.confidence IS NOT NULL
        ) found GROUP BY place, bin
        """,
        list(runs),
        list(offsets),
        float(LOG_RATIO_EDGES[0]),
        float(LOG_RATIO_EDGES[-1]),
        counts.shape[1],
    )
    for row in rows:
        counts[row["place"] - 1, min(max(row["bin"] - 1, 0), counts.shape[1] - 1)] += row["sources"]
    return counts
