"""The table `shadow_runs`: what a challenger made of runs that the champion answered."""

from uuid import UUID

import msgspec

from astrotriton.gateway.storage.database import Connection


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """A challenger's detections beside the champion's.

    Attributes
    ----------
    real
        How many sources the challenger calls real.
    matched
        How many sources both scored, one within the NMS radius of the other.
    only_champion, only_challenger
        How many only one of them scored.
    verdicts_changed
        How many of the matched ones only one of them calls real.
    mean_difference, largest_difference
        Of the confidences of the matched ones, absolute; None if there are none.
    """

    real: int
    matched: int
    only_champion: int
    only_challenger: int
    verdicts_changed: int
    mean_difference: float | None
    largest_difference: float | None


async def insert_comparison(
    connection: Connection, run_id: UUID, model_id: UUID, comparison: Comparison
) -> None:
    """Add what a challenger made of a run."""
    await connection.execute(
        """
        INSERT INTO shadow_runs (
            run_id, model_id, real, matched, only_champion, only_challenger, verdicts_changed,
            mean_difference, largest_difference
        ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
        ON CONFLICT (run_id) DO NOTHING
        """,
        run_id,
        model_id,
        *msgspec.structs.astuple(comparison),
    )
