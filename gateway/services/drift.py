"""Drift: a bounded sample of what is scored, beside what the version was made for."""

import asyncio
import logging
import math
import random
import time
import zipfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from uuid_utils.compat import uuid7

from astrotriton.detection.assurance.drift import (
    BASELINE_FILE,
    DESCRIPTORS,
    LEAST_EXPOSURES,
    Baseline,
    compare,
    describe,
    follow,
    rows_of,
)
from astrotriton.detection.errors import InputError
from astrotriton.detection.scoring.score import Scored
from astrotriton.gateway.backends.object_store import ObjectStore
from astrotriton.gateway.compute import compute
from astrotriton.gateway.errors import (
    DependencyError,
    GatewayError,
    NotFoundError,
    TooLittleDataError,
)
from astrotriton.gateway.observability.metrics import DRIFT_DISTANCE, DRIFTED, SAMPLES_DROPPED
from astrotriton.gateway.periodic import Seldom, repeat, work_off
from astrotriton.gateway.services.catalogue import CatalogueService
from astrotriton.gateway.services.drift_report import make_report
from astrotriton.gateway.services.events import DRIFTED as DRIFTED_SUBJECT
from astrotriton.gateway.services.events import EventSource, drifted_event
from astrotriton.gateway.services.models import DEPENDENCY, ModelService
from astrotriton.gateway.services.outbox import OutboxPublisher
from astrotriton.gateway.services.performance import read_window
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.drift import (
    Accepted,
    Described,
    Found,
    Sample,
    count_scored,
    find_baseline,
    find_check,
    find_samples,
    forget_samples,
    hold_checks,
    insert_check,
    insert_samples,
    last_checked,
    latest_checks,
    list_checks,
    put_report_off,
    sampled_versions,
    set_baseline,
    set_report_ready,
    take_pending,
)
from astrotriton.gateway.storage.outbox import insert_event
from astrotriton.wire.drift import BaselineIn, DriftBaseline, DriftCheck, Feature, Trend
from astrotriton.wire.models import VersionRef
from astrotriton.wire.runs import InferResponse

#: How long samples are kept.
KEPT = timedelta(days=7)

_WAITING = 16
_UNSTORED = 500
_PAUSE = 5.0
_HOUR = 3600.0
_MOST = 5000
_LEASE = timedelta(minutes=10)
_RETRY = timedelta(seconds=30)
_LARGEST_REPORT = 64 * 1024 * 1024

_log = logging.getLogger(__name__)


class _Offer(NamedTuple):
    run_id: UUID
    version: int
    created_at: datetime
    scored: Scored


class DriftSampler:
    """Describes some of the exposures that this gateway scores, and stores that in the background.

    So many of each minute, chosen by chance (Vitter's reservoir). What does not fit is dropped, and
    counted.

    Parameters
    ----------
    name
        The model's.
    database
        Where samples go.
    per_minute
        Most exposures of a minute that are kept.
    """

    def __init__(self, name: str, database: Database, per_minute: int) -> None:
        self._name = name
        self._database = database
        self._per_minute = per_minute
        self._offers: asyncio.Queue[_Offer] = asyncio.Queue(_WAITING)
        self._minute: list[Sample] = []
        self._began = 0.0
        self._seen = 0
        self._room = per_minute
        self._unstored: list[Sample] = []
        self._lock = asyncio.Lock()

    def offer(self, run: InferResponse, scored: Scored) -> None:
        """Let an exposure be described too, if there is room."""
        try:
            self._offers.put_nowait(_Offer(run.run_id, run.model.version, run.created_at, scored))
        except asyncio.QueueFull:
            SAMPLES_DROPPED.labels("exposure").inc()

    async def run(self) -> None:
        """Describe until cancelled, and store; once more in the end."""
        storing = asyncio.create_task(self._store(), name="drift samples")
        try:
            await work_off(self._offers, self._describe, self._not_described)
        finally:
            storing.cancel()
            with suppress(asyncio.CancelledError):
                await storing
            with suppress(Exception):  # the last samples are not worth a delay
                async with asyncio.timeout(_PAUSE):
                    await self.flush()

    async def _describe(self, offer: _Offer) -> None:
        row = await compute(describe, offer.scored)
        described = {
            name: float(value) if math.isfinite(value) else None
            for name, value in zip(DESCRIPTORS, row, strict=True)
        }
        self._keep(Sample(offer.run_id, offer.version, offer.created_at, described))

    def _not_described(self, offer: _Offer, error: Exception) -> None:
        SAMPLES_DROPPED.labels("exposure").inc()
        _log.warning("run %s cannot be described: %s", offer.run_id, error)

    async def flush(self) -> None:
        """Store what is there.

        Raises
        ------
        DependencyError
            If PostgreSQL is away; the samples wait then, as far as there is room.
        """
        async with self._lock:
            self._room -= len(self._minute)
            self._unstored += self._minute
            self._minute, self._seen = [], 0
            over = len(self._unstored) - _UNSTORED
            if over > 0:
                SAMPLES_DROPPED.labels("exposure").inc(over)
                del self._unstored[:over]
            samples = list(self._unstored)
            if samples:
                async with self._database.transaction() as connection:
                    await insert_samples(connection, self._name, samples)
                self._unstored = self._unstored[len(samples) :]

    async def settle(self) -> None:
        """Describe and store all that was offered before."""
        await self._offers.join()
        await self.flush()

    async def _store(self) -> None:
        await repeat(self.flush, _PAUSE, what="drift samples wait", log=_log)

    def _keep(self, sample: Sample) -> None:
        now = time.monotonic()
        if now - self._began >= 60.0:
            self._began, self._room = now, self._per_minute
        self._seen += 1
        if len(self._minute) < self._room:
            self._minute.append(sample)
            return
        SAMPLES_DROPPED.labels("exposure").inc()
        place = random.randrange(self._seen)
        if place < len(self._minute):
            self._minute[place] = sample


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
        reports: ObjectStore,
        database: Database,
        catalogue: CatalogueService,
        models: ModelService,
        sampler: DriftSampler,
        outbox: OutboxPublisher,
    ) -> None:
        self._event_source = event_source
        self._window = window
        self._interval = interval
        self._report_url = report_url and report_url.rstrip("/")
        self._reports = reports
        self._database = database
        self._catalogue = catalogue
        self._models = models
        self._sampler = sampler
        self._outbox = outbox
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
        return await self._check(VersionRef(name=info.name, version=info.version), text)

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
                    connection, model.name, model.version, window.since, now, _MOST
                )
                if len(rows) < LEAST_EXPOSURES:
                    raise TooLittleDataError(
                        f"{len(rows)} exposures in the window; {LEAST_EXPOSURES} are needed"
                    )
                since = window.since.isoformat(timespec="minutes")
                description = f"{len(rows)} exposures since {since}, accepted by {caller}"
                accepted = Accepted(rows, description, now)
            await set_baseline(connection, model.name, model.version, accepted)
        baseline, _ = await self._baseline(model)
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
        check = await self.get(check_id)
        if check.report.status != "ready":
            detail = check.report.detail or f"it is {check.report.status}"
            raise NotFoundError(f"no report of {check_id}: {detail}")
        try:
            return await self._reports.read(self._address(check), "report", _LARGEST_REPORT)
        except InputError as error:
            raise NotFoundError(f"the report of {check_id} is gone: {error.detail}") from error

    async def run(self) -> None:
        """Look on schedule, tell Prometheus, and make reports, until cancelled."""
        await repeat(self._look, _PAUSE, what="drift waits", log=_log, wake=self._wake)

    async def _look(self) -> None:
        await self._check_due()
        await self._tell_prometheus()
        await self._make_report()
        await self._hourly.do(self._forget)

    async def _forget(self) -> None:
        async with self._database.transaction() as connection:
            await forget_samples(connection, KEPT)

    async def _check_due(self) -> None:
        name, now = self._models.name, datetime.now(UTC)
        since = read_window(self._window).since
        async with self._database.transaction() as connection:
            versions = await sampled_versions(connection, name, since)
            due = [
                version
                for version in versions
                if (last := await last_checked(connection, name, version)) is None
                or now - last >= timedelta(seconds=self._interval)
            ]
        for version in due:
            await self._check(
                VersionRef(name=name, version=version),
                self._window,
                unless_since=now - timedelta(seconds=self._interval),
            )

    async def _check(
        self, model: VersionRef, text: str, unless_since: datetime | None = None
    ) -> DriftCheck:
        baseline, set_at = await self._baseline(model)
        async with self._database.transaction() as connection:
            await hold_checks(connection, model.name)
            check_id = uuid7()
            earlier = await list_checks(connection, model.name, model.version, 1)
            if unless_since is not None and earlier and earlier[0].created_at > unless_since:
                return earlier[0]  # another gateway was faster
            window = read_window(text)
            span = (window.since, window.until)
            rows = await find_samples(connection, model.name, model.version, *span, _MOST)
            since = max(window.until - KEPT, set_at) if set_at else window.until - KEPT
            stream = await find_samples(
                connection, model.name, model.version, since, window.until, _MOST
            )
            scored = await count_scored(connection, model.name, model.version, *span)
            features, trend = await asyncio.to_thread(_compared, baseline, rows, stream)
            found, status = _judge(baseline, len(rows), scored, features, trend)
            wanted = self._report_url is not None and len(rows) >= LEAST_EXPOSURES
            report = "pending" if wanted and baseline is not None else "off"
            await insert_check(connection, check_id, model, window, status, found, report)
            check = await find_check(connection, check_id)
            assert check is not None
            before = set(earlier[0].drifted) if earlier else set()
            if set(check.drifted) - before:
                event_id = uuid7()
                event = drifted_event(check, event_id, self._event_source)
                await insert_event(connection, event_id, DRIFTED_SUBJECT, event)
        self._outbox.wake()
        self._wake.set()
        return check

    async def _baseline(self, model: VersionRef) -> tuple[Baseline | None, datetime | None]:
        """What a version is compared with, and since when if a person chose it."""
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

    async def _tell_prometheus(self) -> None:
        async with self._database.transaction() as connection:
            checks = await latest_checks(connection, self._models.name)
        for check in checks:
            labels = (check.model.name, check.model.version)
            DRIFTED.labels(*labels).set(check.status == "drifted")
            for feature in check.features:
                if feature.distance is not None:
                    DRIFT_DISTANCE.labels(*labels, feature.name).set(feature.distance)

    async def _make_report(self) -> None:
        """Make the newest report that is missing; if that fails, it is tried again later."""
        async with self._database.transaction() as connection:
            check = await take_pending(connection, self._models.name, _LEASE)
        if check is None:
            return
        try:
            baseline, _ = await self._baseline(check.model)
            async with self._database.transaction() as connection:
                model, window = check.model, check.window
                rows = await find_samples(
                    connection, model.name, model.version, window.since, window.until, _MOST
                )
            if baseline is None:
                raise DependencyError(DEPENDENCY, f"there is no {BASELINE_FILE} any more")
            content = await make_report(baseline.rows, rows_of(rows))
            await self._reports.write(self._address(check), content)
        except (GatewayError, InputError, OSError, RuntimeError) as error:
            _log.warning("the report of %s waits: %s", check.id, error)
            async with self._database.transaction() as connection:
                await put_report_off(connection, check.id, _RETRY, str(error)[-500:])
        else:
            async with self._database.transaction() as connection:
                await set_report_ready(connection, check.id)

    def _address(self, check: DriftCheck) -> str:
        return f"{self._report_url}/{check.model.name}/{check.model.version}/{check.id}.html"


def _compared(
    baseline: Baseline | None, rows: list[Described], stream: list[Described]
) -> tuple[list[Feature], Trend | None]:
    if baseline is None:
        return [], None
    return compare(baseline.rows, rows_of(rows)), follow(baseline.rows, rows_of(stream))


def _judge(
    baseline: Baseline | None,
    exposures: int,
    scored: int,
    features: list[Feature],
    trend: Trend | None,
) -> tuple[Found, str]:
    drifted = [feature.name for feature in features if feature.drifted]
    if trend is not None and trend.alarmed_after is not None:
        drifted.append("trend")
    reason, status = None, "steady"
    if baseline is None:
        status = "no-baseline"
        reason = f"the version came without {BASELINE_FILE}: export it again"
    elif drifted:
        status = "drifted"
    elif exposures < LEAST_EXPOSURES:
        status = "too-little-data"
        reason = f"{exposures} exposures in the window; {LEAST_EXPOSURES} are needed"
    found = Found(
        exposures=exposures,
        scored=scored,
        reason=reason,
        drifted=drifted,
        features=features,
        trend=trend,
        baseline=None if baseline is None else baseline.description,
    )
    return found, status
