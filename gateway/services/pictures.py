"""What was scored as pictures: cut-outs of detections, and whole exposures."""

from uuid import UUID

import msgspec
from asyncpg import Record

from astrotriton.detection.image.cutouts import (
    Levels,
    Stretch,
    fits_of,
    kept_levels,
    measured_levels,
    png,
)
from astrotriton.detection.image.overviews import Box, view
from astrotriton.gateway.compute import compute
from astrotriton.gateway.errors import NotFoundError
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.detections import find_cutout
from astrotriton.gateway.storage.pictures import find_picture
from astrotriton.wire.exposures import COMPANIONS, Plane

_LONGEST = 1024  # pixels of what is shown of an exposure


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How a cut-out is shown.

    Attributes
    ----------
    plane
        Which of its images.
    stretch
        How grey grows with the significance.
    white
        What is white, sigma.
    zoom
        Only the middle is shown, one part in so many of the side.
    """

    plane: Plane = "difference"
    stretch: Stretch = "asinh"
    white: float = 50.0
    zoom: int = 1


class PictureService:
    """Draws what is kept of exposures."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def cutout(self, detection_id: UUID, look: Look) -> bytes:
        """A picture of a detection, PNG.

        Raises
        ------
        NotFoundError
            If there is no detection of that id, or no such picture of it was kept.
        """
        kept = await self._cutout(detection_id)
        if kept["png"] is not None and look.plane == "difference":
            return bytes(kept["png"])  # of an earlier release, which has stretched it
        levels = _levels(kept).get(look.plane)
        if levels is None:
            raise NotFoundError(
                f"no {look.plane} image of detection {detection_id} is kept: it was not sent"
            )
        return await compute(png, levels.grey, look.stretch, look.white, look.zoom)

    async def cutout_file(self, detection_id: UUID) -> bytes:
        """The cut-outs of a detection in one FITS file, an extension each.

        Raises
        ------
        NotFoundError
            If there is no detection of that id, or its pixels were not kept.
        """
        kept = await self._cutout(detection_id)
        levels = _levels(kept)
        if not levels:
            raise NotFoundError(
                f"of detection {detection_id} an earlier release kept a picture alone"
            )
        name = kept["exposure_name"] or None
        return await compute(
            fits_of,
            levels,
            (kept["x"], kept["y"]),
            kept["flux_unit"],
            DETECTID=str(detection_id),
            RUNID=str(kept["run_id"]),
            EXPOSURE=name and name.encode("ascii", "backslashreplace").decode(),
            RA=kept["ra"],
            DEC=kept["dec"],
        )

    async def exposure(self, run_id: UUID, box: Box) -> bytes:
        """A part of a run's exposure, JPEG.

        Raises
        ------
        NotFoundError
            If no picture of it is kept.
        """
        async with self._database.transaction() as connection:
            kept = await find_picture(connection, run_id)
        if kept is None:
            raise NotFoundError(f"no picture of the exposure of run {run_id} is kept")
        return await compute(view, kept, box, _LONGEST)

    async def _cutout(self, detection_id: UUID) -> Record:
        async with self._database.transaction() as connection:
            kept = await find_cutout(connection, detection_id)
        if kept is None:
            raise NotFoundError(
                f"no cut-out of a detection {detection_id}: only those of the most confident "
                "detections of a run are kept"
            )
        return kept


def _levels(kept: Record) -> dict[Plane, Levels]:
    """The images of a detection, as far as they are kept."""
    found: dict[Plane, Levels] = {}
    if kept["pixels"] is not None:
        found["difference"] = measured_levels(kept["pixels"], kept["background"], kept["noise"])
    for plane in COMPANIONS:
        if kept[plane] is not None:
            found[plane] = kept_levels(kept[plane])
    return found
