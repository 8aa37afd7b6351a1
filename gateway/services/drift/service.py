"""Drift on request and on schedule."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID

from astrotriton.detection.quality.drift import LEAST_EXPOSURES
from astrotriton.gateway.backends.object_store import ObjectStore
from astrotriton.gateway.errors import NotFoundError, TooLittleDataError
from astrotriton.gateway.observability.metrics import DRIFT_DISTANCE, DRIFTED
from astrotriton.gateway.periodic import Seldom, repeat
from astrotriton.gateway.services.catalogue import CatalogueService
from astrotriton.gateway.services.drift.baselines import Baselines
from astrotriton.gateway.services.drift.looks import KEPT, MOST, Looks
from astrotriton.gateway.services.drift.reports import Reports
from astrotriton.gateway.services.drift.sampler import DriftSampler
from astrotriton.gateway.services.events import EventSource
from astrotriton.gateway.services.models import ModelService
from astrotriton.gateway.services.outbox import OutboxPublisher
from astrotriton.gateway.services.performance import read_window
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.drift import (
    Accepted,
    find_check,
    find_samples,
    forget_samples,
    hold_checks,
    latest_checks,
    list_checks,
    set_baseline,
)
from astrotriton.wire.drift import BaselineIn, DriftBaseline, DriftCheck
from astrotriton.wire.models import VersionRef

_PAUSE = 5.0
_HOUR = 3600.0

_log = logging.getLogger(__name__)


class DriftService:
    """Looks for drift, on request and on schedule, and has reports made of it.

    Parameters
    ----------
    event_source
        ``source`` of an event.
    window
        What a scheduled look is at, as `read_window` takes it.
    interval
        Seconds between them.
    report_url
        ``s3://bucket/prefix`` that reports are kept under; None: there are none.
    makes_reports
        Whether this process makes them; otherwise a worker does.
    reports
        May touch that bucket.
    database, catalogue, models, sampler, outbox
        What a look needs.
    """

    def __init__(
        self,
        *,
        event_source: EventSource,
        window: str,
        interval: float,
        report_url: str | None,
        makes_reports: bool = True,
        reports: ObjectStore,
        database: Database,
        catalogue: CatalogueService,
        models: ModelService,
        sampler: DriftSampler,
        outbox: OutboxPublisher,
    ) -> None:
        self._window = window
        self._interval = interval
        self._database = database
        self._catalogue = catalogue
        self._models = models
        self._sampler = sampler
        self._outbox = outbox
        self._baselines = Baselines(database, models)
        self._looks = Looks(event_source, report_url is not None, database, self._baselines)
        self._makes_reports = makes_reports
        self._reports = Reports(report_url, reports, database, self._baselines)
        self._wake = asyncio.Event()
        self._hourly = Seldom(_HOUR)

    async def check(self, model_id: str, text: str) -> DriftCheck:
        """Look for drift now.

        Raises
        ------
        NotFoundError
            If there is no such version.
        InputError
            If the window is none.
        DependencyError
            If PostgreSQL or the model repository is away.
        """
        read_window(text)
        info = await self._catalogue.get(model_id)
        await self._sampler.settle()
        return await self._look(VersionRef(name=info.name, version=info.version), text)

    async def get(self, check_id: UUID) -> DriftCheck:
        """A look for drift.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        """
        async with self._database.transaction() as connection:
            found = await find_check(connection, check_id)
        if found is None:
            raise NotFoundError(f"no look for drift has the id {check_id}")
        return found

    async def of_model(self, model_id: str, limit: int) -> list[DriftCheck]:
        """The newest looks at a version.

        Raises
        ------
        NotFoundError
            If there is no such version.
        """
        info = await self._catalogue.get(model_id)
        async with self._database.transaction() as connection:
            return await list_checks(connection, info.name, info.version, limit)

    async def accept(self, model_id: str, asked: BaselineIn, caller: str) -> DriftBaseline:
        """Compare a version with other exposures from now on.

        Raises
        ------
        NotFoundError
            If there is no such version.
        InputError
            If the window is none.
        TooLittleDataError
            If it has too few exposures.
        """
        window = None if asked.window is None else read_window(asked.window)
        info = await self._catalogue.get(model_id)
        model = VersionRef(name=info.name, version=info.version)
        await self._sampler.settle()
        async with self._database.transaction() as connection:
            await hold_checks(connection, model.name)
            accepted = None
            if window is not None:
                now = datetime.now(UTC)
                rows = await find_samples(
                    connection, model.name, model.version, window.since, now, MOST
                )
                if len(rows) < LEAST_EXPOSURES:
                    raise TooLittleDataError(
                        f"{len(rows)} exposures in the window; {LEAST_EXPOSURES} are needed"
                    )
                since = window.since.isoformat(timespec="minutes")
                description = f"{len(rows)} exposures since {since}, accepted by {caller}"
                accepted = Accepted(rows, description, now)
            await set_baseline(connection, model.name, model.version, accepted)
        baseline, _ = await self._baselines.of(model)
        return DriftBaseline(
            model=model,
            description=None if baseline is None else baseline.description,
            exposures=0 if baseline is None else len(baseline.rows),
        )

    async def report(self, check_id: UUID) -> bytes:
        """Evidently's report, HTML.

        Raises
        ------
        NotFoundError
            If there is none, or not yet.
        DependencyError
            If the store does not answer.
        """
        return await self._reports.read(await self.get(check_id))

    async def run(self) -> None:
        """Look on schedule, tell Prometheus, and make reports if it should, until cancelled."""
        await repeat(self._turn, _PAUSE, what="drift waits", log=_log, wake=self._wake)

    async def _turn(self) -> None:
        await self._check_due()
        await self._tell_prometheus()
        if self._makes_reports:
            await self._reports.make_next(self._models.name)
        await self._hourly.do(self._forget)

    async def _forget(self) -> None:
        async with self._database.transaction() as connection:
            await forget_samples(connection, KEPT)

    async def _check_due(self) -> None:
        earliest = datetime.now(UTC) - timedelta(seconds=self._interval)
        for model in await self._looks.due(self._models.name, self._window, self._interval):
            await self._look(model, self._window, unless_since=earliest)

    async def _look(
        self, model: VersionRef, text: str, unless_since: datetime | None = None
    ) -> DriftCheck:
        check = await self._looks.look(model, text, unless_since)
        self._outbox.wake()
        self._wake.set()
        return check

    async def _tell_prometheus(self) -> None:
        async with self._database.transaction() as connection:
            checks = await latest_checks(connection, self._models.name)
        for check in checks:
            labels = (check.model.name, check.model.version)
            DRIFTED.labels(*labels).set(check.status == "drifted")
            for feature in check.features:
                if feature.distance is not None:
                    DRIFT_DISTANCE.labels(*labels, feature.name).set(feature.distance)
