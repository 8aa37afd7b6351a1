"""The reports of looks for drift: made one after another, and kept in an object store."""

import logging
from datetime import timedelta

from astrotriton.detection.errors import InputError
from astrotriton.detection.quality.drift import BASELINE_FILE, rows_of
from astrotriton.gateway.backends.object_store import ObjectStore
from astrotriton.gateway.errors import DependencyError, GatewayError, NotFoundError
from astrotriton.gateway.services.drift.baselines import Baselines
from astrotriton.gateway.services.drift.looks import MOST
from astrotriton.gateway.services.drift.report import make_report
from astrotriton.gateway.services.models import DEPENDENCY
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.drift import (
    find_samples,
    put_report_off,
    set_report_ready,
    take_pending,
)
from astrotriton.wire.drift import DriftCheck

_LEASE = timedelta(minutes=10)
_RETRY = timedelta(seconds=30)
_LARGEST_REPORT = 64 * 1024 * 1024

_log = logging.getLogger(__name__)


class Reports:
    """Evidently's reports.

    Parameters
    ----------
    url
        ``s3://bucket/prefix`` that they are kept under; None: there are none.
    store
        May touch that bucket.
    database, baselines
        What a report needs.
    """

    def __init__(
        self, url: str | None, store: ObjectStore, database: Database, baselines: Baselines
    ) -> None:
        self._url = url and url.rstrip("/")
        self._store = store
        self._database = database
        self._baselines = baselines

    async def read(self, check: DriftCheck) -> bytes:
        """The report of a look, HTML.

        Raises
        ------
        NotFoundError
            If there is none, or not yet.
        DependencyError
            If the store does not answer.
        """
        if check.report.status != "ready":
            detail = check.report.detail or f"it is {check.report.status}"
            raise NotFoundError(f"no report of {check.id}: {detail}")
        try:
            return await self._store.read(self._address(check), "report", _LARGEST_REPORT)
        except InputError as error:
            raise NotFoundError(f"the report of {check.id} is gone: {error.detail}") from error

    async def make_next(self, name: str) -> None:
        """Make the newest report that is missing; if that fails, it is tried again later."""
        async with self._database.transaction() as connection:
            check = await take_pending(connection, name, _LEASE)
        if check is None:
            return
        try:
            baseline, _ = await self._baselines.of(check.model)
            async with self._database.transaction() as connection:
                model, window = check.model, check.window
                rows = await find_samples(
                    connection, model.name, model.version, window.since, window.until, MOST
                )
            if baseline is None:
                raise DependencyError(DEPENDENCY, f"there is no {BASELINE_FILE} any more")
            content = await make_report(baseline.rows, rows_of(rows))
            await self._store.write(self._address(check), content)
        except (GatewayError, InputError, OSError, RuntimeError) as error:
            _log.warning("the report of %s waits: %s", check.id, error)
            async with self._database.transaction() as connection:
                await put_report_off(connection, check.id, _RETRY, str(error)[-500:])
        else:
            async with self._database.transaction() as connection:
                await set_report_ready(connection, check.id)

    def _address(self, check: DriftCheck) -> str:
        return f"{self._url}/{check.model.name}/{check.model.version}/{check.id}.html"
