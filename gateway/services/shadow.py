"""Versions in the shadow: they score what another one answered, and nobody waits for them."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple, Protocol, TypeVar
from uuid import UUID

import numpy as np

from astrotriton.detection.confidence.prevalence import StatedPrevalence
from astrotriton.detection.scoring.score import TTA_VIEWS
from astrotriton.detection.sources.matching import match, nearest
from astrotriton.gateway.errors import BusyError
from astrotriton.gateway.observability.metrics import SHADOW_RUNS
from astrotriton.gateway.periodic import work_off
from astrotriton.gateway.services.admission import Admission
from astrotriton.gateway.services.canary.journal import CanaryJournal, ScoredByBoth
from astrotriton.gateway.services.inference import InferenceService, Submission
from astrotriton.gateway.services.models import ModelService, ServedModel
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.disputes import Dispute, insert_disputes
from astrotriton.gateway.storage.models import insert_model
from astrotriton.gateway.storage.shadow import Comparison, insert_comparison
from astrotriton.wire.detections import Detection, ScoredDetection
from astrotriton.wire.runs import InferResponse

_WAITING = 2

_log = logging.getLogger(__name__)


class _Job(NamedTuple):
    submission: Submission
    run: InferResponse
    version: int
    held: ExitStack


class ShadowService:
    """Scores exposures once more in the background, one at a time, while there is nothing to do.

    Under load they are dropped, and counted.

    Parameters
    ----------
    admission
        Says whether callers wait.
    inference, models, database
        What scoring needs.
    canary
        What is told of exposures that both versions of a canary scored.
    """

    def __init__(
        self,
        *,
        admission: Admission,
        inference: InferenceService,
        models: ModelService,
        database: Database,
        canary: CanaryJournal,
    ) -> None:
        self._admission = admission
        self._inference = inference
        self._models = models
        self._database = database
        self._canary = canary
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(_WAITING)

    def offer(self, submission: Submission, run: InferResponse, version: int) -> None:
        """Let another version score an exposure too, if there is room."""
        held = ExitStack()
        try:
            if self._admission.crowded or self._jobs.full():
                raise BusyError("callers go first")
            held.enter_context(self._admission.holding(submission.size))
        except BusyError:
            SHADOW_RUNS.labels("dropped").inc()
            return
        self._jobs.put_nowait(_Job(submission, run, version, held))

    async def run(self) -> None:
        """Work until cancelled."""
        await work_off(self._jobs, self._score, self._failed)

    async def _score(self, job: _Job) -> None:
        with job.held:
            model = await self._models.get(job.version)
            _, scored = await self._inference.infer(
                job.submission, model, prevalence=_stated_for(job.run, model)
            )
            comparison = compare(job.run, scored.detections, model.card.nms_radius)
            async with self._database.transaction() as connection:
                await insert_model(
                    connection, model.id, model.ref, model.card_json, model.card_digest
                )
                await insert_comparison(connection, job.run.run_id, model.id, comparison)
                sources = scored_by_both(job.run, scored.detections, model.card.nms_radius)
                await self._canary.scored_by_both(
                    connection, job.run.model.version, job.version, sources
                )
                await insert_disputes(connection, disputes_of(sources, model.id))
        SHADOW_RUNS.labels("compared").inc()

    def _failed(self, job: _Job, error: Exception) -> None:
        SHADOW_RUNS.labels("failed").inc()
        _log.warning(
            "version %d failed in the shadow of run %s: %s: %s",
            *(job.version, job.run.run_id, type(error).__name__, error),
        )


def _stated_for(run: InferResponse, model: ServedModel) -> StatedPrevalence | None:
    """The share of real sources that a run was scored for, if the version can follow it."""
    views = TTA_VIEWS if run.tta else 1
    if run.prevalence is None or model.card.calibrated_share(views) is None:
        return None
    said = run.prevalence
    return StatedPrevalence(share=said.share, source=said.source, estimate=said.estimate)


def scored_by_both(
    run: InferResponse, detections: list[Detection], radius: float
) -> list[ScoredByBoth]:
    """Every source that was answered, or that another version found within the same exposure."""
    ours, theirs = _kept(run.detections), _kept(detections)
    partner = dict(pairs(ours, theirs, radius))
    found = [
        ScoredByBoth(
            one.id,
            one.confidence or 0.0,
            (other.confidence or 0.0) if other else 0.0,
            one.is_real,
            other is not None and other.is_real,
        )
        for i, one in enumerate(ours)
        for other in (theirs[partner[i]] if i in partner else None,)
    ]
    alone = set(range(len(theirs))) - set(partner.values())
    return found + [
        ScoredByBoth(None, 0.0, theirs[j].confidence or 0.0, False, theirs[j].is_real)
        for j in sorted(alone)
    ]


def disputes_of(sources: list[ScoredByBoth], other: UUID) -> list[Dispute]:
    """The detections that another version, of this id, judges otherwise, or does not find.

    An artefact that only one of them found is none: nobody calls it real.
    """
    return [
        Dispute(one.detection_id, other, one.other or None, one.other_real)
        for one in sources
        if one.detection_id is not None and one.answered_real != one.other_real
    ]


def compare(run: InferResponse, detections: list[Detection], radius: float) -> Comparison:
    """Another version's detections beside those answered, as `compare_kept` takes them."""
    return compare_kept(_kept(run.detections), _kept(detections), radius)


class Placed(Protocol):
    """A source that was scored: its place in pixels, its confidence and its verdict."""

    @property
    def x(self) -> float | None: ...  # noqa: D102
    @property
    def y(self) -> float | None: ...  # noqa: D102
    @property
    def confidence(self) -> float | None: ...  # noqa: D102
    @property
    def is_real(self) -> bool: ...  # noqa: D102


def compare_kept(ours: Sequence[Placed], theirs: Sequence[Placed], radius: float) -> Comparison:
    """What two versions scored of one exposure; pairs lie within ``radius`` pixels."""
    both = pairs(ours, theirs, radius)
    differences = [
        abs((ours[i].confidence or 0.0) - (theirs[j].confidence or 0.0)) for i, j in both
    ]
    return Comparison(
        real=sum(d.is_real for d in theirs),
        matched=len(both),
        only_champion=len(ours) - len(both),
        only_challenger=len(theirs) - len(both),
        verdicts_changed=sum(ours[i].is_real != theirs[j].is_real for i, j in both),
        mean_difference=float(np.mean(differences)) if both else None,
        largest_difference=max(differences, default=None),
    )


_Found = TypeVar("_Found", ScoredDetection, Detection)


def _kept(found: list[_Found]) -> list[_Found]:
    return [one for one in found if one.outcome == "kept"]


def pairs(ours: Sequence[Placed], theirs: Sequence[Placed], radius: float) -> list[tuple[int, int]]:
    """Which are the same source, within ``radius`` pixels: their places in the two lists."""
    here, there = (
        np.array([(d.x, d.y) for d in found], np.float64).reshape(-1, 2) for found in (ours, theirs)
    )
    # The closest go first.
    twin = match(here, -nearest(here, there, radius).distance, there, radius)
    return [(i, j) for i, j in enumerate(twin.tolist()) if j >= 0]
