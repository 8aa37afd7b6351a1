"""The table `runs`: one row for each exposure scored."""

from uuid import UUID

from gateway.schemas import InferResponse
from gateway.storage.database import Connection


async def insert_run(connection: Connection, model_id: UUID, run: InferResponse) -> None:
    """Add a run, without its detections."""
    await connection.execute(
        """
        INSERT INTO runs (
            id, model_id, exposure_name, exposure_hdu, exposure_digest, height, width, background,
            background_gradient, noise, seeing_fwhm, masked_fraction, tiles, threshold, extracted,
            flags, detections, created_at
        ) VALUES (
            $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18
        )
        """,
        run.run_id,
        model_id,
        run.exposure.name,
        run.exposure.hdu,
        run.exposure.digest,
        run.exposure.height,
        run.exposure.width,
        run.image.background,
        run.image.background_gradient,
        run.image.noise,
        run.image.seeing_fwhm,
        run.image.masked_fraction,
        run.tiles,
        run.threshold,
        run.extracted,
        run.flags,
        len(run.detections),
        run.created_at,
    )
