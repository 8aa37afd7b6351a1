"""The table `pictures`: a picture of each exposure, to be looked at."""

from uuid import UUID

from astrotriton.detection.image.overviews import Overview
from astrotriton.gateway.storage.database import Connection


async def insert_picture(connection: Connection, run_id: UUID, picture: Overview) -> None:
    """Add the picture of a run's exposure."""
    await connection.execute(
        "INSERT INTO pictures (run_id, binning, jpeg) VALUES ($1, $2, $3)", run_id, *picture
    )


async def find_picture(connection: Connection, run_id: UUID) -> Overview | None:
    """The picture of a run's exposure; None if none is kept."""
    row = await connection.fetchrow("SELECT binning, jpeg FROM pictures WHERE run_id = $1", run_id)
    return None if row is None else Overview(row["binning"], row["jpeg"])


async def find_binning(connection: Connection, run_id: UUID) -> int | None:
    """The binning of the picture of a run's exposure; None if none is kept."""
    found: int | None = await connection.fetchval(
        "SELECT binning FROM pictures WHERE run_id = $1", run_id
    )
    return found
