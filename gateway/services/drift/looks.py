"""A look for drift: the exposures of a window beside the baseline of their version."""

import asyncio
from datetime import UTC, datetime, timedelta

from uuid_utils.compat import uuid7

from astrotriton.detection.quality.drift import (
    BASELINE_FILE,
    LEAST_EXPOSURES,
    Baseline,
    compare,
    follow,
    rows_of,
)
from astrotriton.gateway.services.drift.baselines import Baselines
from astrotriton.gateway.services.events import DRIFTED, EventSource, drifted_event
from astrotriton.gateway.services.performance import read_window
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.drift import (
    Described,
    Found,
    count_scored,
    find_check,
    find_samples,
    hold_checks,
    insert_check,
    last_checked,
    list_checks,
    sampled_versions,
)
from astrotriton.gateway.storage.outbox import insert_event
from astrotriton.wire.drift import DriftCheck, Feature, Trend
from astrotriton.wire.models import VersionRef

#: How long samples are kept.
KEPT = timedelta(days=7)
#: Most exposures that are compared at a time.
MOST = 5000


class Looks:
    """Looks for drift, keeps what was seen, and has it told.

    Parameters
    ----------
    event_source
        ``source`` of an event.
    reported
        Whether reports are kept of what was seen.
    database, baselines
        What a look needs.
    """

    def __init__(
        self, event_source: EventSource, reported: bool, database: Database, baselines: Baselines
    ) -> None:
        self._event_source = event_source
        self._reported = reported
        self._database = database
        self._baselines = baselines

    async def due(self, name: str, window: str, interval: float) -> list[VersionRef]:
        """The versions with exposures in the window that nobody has looked at for an interval."""
        now = datetime.now(UTC)
        since = read_window(window).since
        async with self._database.transaction() as connection:
            versions = await sampled_versions(connection, name, since)
            return [
                VersionRef(name=name, version=version)
                for version in versions
                if (last := await last_checked(connection, name, version)) is None
                or now - last >= timedelta(seconds=interval)
            ]

    async def look(
        self, model: VersionRef, text: str, unless_since: datetime | None = None
    ) -> DriftCheck:
        """Look now.

        Parameters
        ----------
        text
            The window, as `read_window` takes it.
        unless_since
            A look after this is answered instead: another gateway was faster.

        Raises
        ------
        DependencyError
            If PostgreSQL or the model repository is away.
        """
        baseline, set_at = await self._baselines.of(model)
        async with self._database.transaction() as connection:
            await hold_checks(connection, model.name)
            check_id = uuid7()
            earlier = await list_checks(connection, model.name, model.version, 1)
            if unless_since is not None and earlier and earlier[0].created_at > unless_since:
                return earlier[0]
            window = read_window(text)
            span = (window.since, window.until)
            rows = await find_samples(connection, model.name, model.version, *span, MOST)
            since = max(window.until - KEPT, set_at) if set_at else window.until - KEPT
            stream = await find_samples(
                connection, model.name, model.version, since, window.until, MOST
            )
            scored = await count_scored(connection, model.name, model.version, *span)
            features, trend = await asyncio.to_thread(_compared, baseline, rows, stream)
            found, status = _judge(baseline, len(rows), scored, features, trend)
            wanted = self._reported and len(rows) >= LEAST_EXPOSURES
            report = "pending" if wanted and baseline is not None else "off"
            await insert_check(connection, check_id, model, window, status, found, report)
            check = await find_check(connection, check_id)
            assert check is not None
            before = set(earlier[0].drifted) if earlier else set()
            if set(check.drifted) - before:
                event_id = uuid7()
                event = drifted_event(check, event_id, self._event_source)
                await insert_event(connection, event_id, DRIFTED, event)
        return check


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
