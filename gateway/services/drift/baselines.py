"""What the exposures of a version are compared with."""

import asyncio
import zipfile
from datetime import datetime

from astrotriton.detection.quality.drift import BASELINE_FILE, Baseline, rows_of
from astrotriton.gateway.errors import DependencyError
from astrotriton.gateway.services.models import DEPENDENCY, ModelService
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.drift import find_baseline
from astrotriton.wire.models import VersionRef


class Baselines:
    """The baseline of a version: what a person accepted, or else what it was exported with.

    Parameters
    ----------
    database, models
        Where they are.
    """

    def __init__(self, database: Database, models: ModelService) -> None:
        self._database = database
        self._models = models

    async def of(self, model: VersionRef) -> tuple[Baseline | None, datetime | None]:
        """What a version is compared with, and since when if a person chose it.

        Raises
        ------
        DependencyError
            If PostgreSQL or the model repository is away, or the file is damaged.
        """
        async with self._database.transaction() as connection:
            accepted = await find_baseline(connection, model.name, model.version)
        if accepted is not None:
            rows = rows_of(accepted.described)
            return Baseline(rows, accepted.description), accepted.set_at
        content = await self._models.file(model.version, BASELINE_FILE)
        if content is None:
            return None, None
        try:
            return await asyncio.to_thread(Baseline.from_npz, content), None
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise DependencyError(
                DEPENDENCY, f"{BASELINE_FILE} of version {model.version}: {error}"
            ) from error
