"""A bounded sample of what a gateway scores, described and stored."""

import asyncio
import logging
import math
import random
import time
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from astrotriton.detection.quality.drift import DESCRIPTORS, describe
from astrotriton.detection.scoring.scored import Scored
from astrotriton.gateway.compute import compute
from astrotriton.gateway.observability.metrics import SAMPLES_DROPPED
from astrotriton.gateway.periodic import repeat, work_off
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.drift import Sample, insert_samples
from astrotriton.wire.runs import InferResponse

_WAITING = 16
_UNSTORED = 500
_PAUSE = 5.0

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
