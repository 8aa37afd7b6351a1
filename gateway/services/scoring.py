"""A run: from an exposure's bytes to detections answered, stored and told."""

import asyncio
import hashlib
import logging
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from uuid_utils.compat import uuid7

from astrotriton.detection.image.cutouts import cut_out, cut_out_unmeasured
from astrotriton.detection.image.overviews import Overview, overview
from astrotriton.detection.image.planes import PLANE_FIELDS
from astrotriton.detection.scoring.inference import Inference
from astrotriton.detection.scoring.scored import Scored
from astrotriton.gateway.compute import compute
from astrotriton.gateway.errors import (
    KeyReusedError,
    RunGivenUpError,
)
from astrotriton.gateway.observability.metrics import (
    CONFIDENCES,
    DETECTIONS,
    RUNS,
    measure_parts,
    stage,
)
from astrotriton.gateway.services.attempts import ReplacedError, attempt
from astrotriton.gateway.services.canary.journal import CanaryJournal
from astrotriton.gateway.services.disputes import DisputeService
from astrotriton.gateway.services.drift.sampler import DriftSampler
from astrotriton.gateway.services.events import DETECTION_SCORED, EventSource, scored_event
from astrotriton.gateway.services.inference import InferenceService, Progress, Submission
from astrotriton.gateway.services.models import ModelService, ServedModel
from astrotriton.gateway.services.outbox import OutboxPublisher
from astrotriton.gateway.services.prevalence import PrevalenceService
from astrotriton.gateway.services.recorder import Recorder
from astrotriton.gateway.services.routing import Choice, RoutingService
from astrotriton.gateway.services.shadow import ShadowService
from astrotriton.gateway.storage.database import Connection, Database
from astrotriton.gateway.storage.detections import (
    KeptCutout,
    insert_cutouts,
    insert_detections,
)
from astrotriton.gateway.storage.jobs import complete_job, find_key, take_key
from astrotriton.gateway.storage.models import insert_model
from astrotriton.gateway.storage.outbox import insert_event
from astrotriton.gateway.storage.pictures import insert_picture
from astrotriton.gateway.storage.runs import insert_run
from astrotriton.wire.detections import Detection, ScoredDetection
from astrotriton.wire.exposures import COMPANIONS, ExposureInfo
from astrotriton.wire.fields import printable
from astrotriton.wire.runs import InferResponse

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRun:
    """A run that is not stored yet: whose it is, and which key it takes.

    Attributes
    ----------
    run_id
        Its id.
    caller
        Who asked for it; idempotency keys are each caller's own.
    key
        The idempotency key, if there is one.
    digest
        SHA-256 of all that was asked under the key; empty without one.
    exposure_digest
        SHA-256 of the exposure's file, being computed: other work need not wait for it.
    began, parts
        When it arrived (`time.perf_counter`), and the seconds of its parts as they become known.
    in_background
        Whether it is a job, which has taken the key already.
    """

    run_id: UUID
    caller: str
    key: str | None
    digest: str
    exposure_digest: asyncio.Task[str]
    began: float
    parts: dict[str, float]
    in_background: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _RunRecord:
    """What is stored of a run. With many detections it takes a while to make."""

    run: InferResponse
    features: list[list[float] | None]
    pictures: dict[UUID, KeptCutout]
    picture: Overview | None
    event_id: UUID
    event: bytes


class ScoringService:
    """Scores exposures and stores what it answers; `RunService` says when.

    Parameters
    ----------
    event_source, event_detections
        ``source`` of an event, and how many detections it lists at most.
    cutouts, picture_side
        How many pictures of a run's detections are kept, and the longest side of that of its
        exposure, pixels; 0: none of it.
    inference, models, routing, prevalence, shadow, database, outbox
        What a run needs.
    recorder, sampler, canary, disputes
        What is told of it.
    """

    def __init__(
        self,
        *,
        event_source: EventSource,
        event_detections: int,
        cutouts: int,
        picture_side: int,
        inference: InferenceService,
        models: ModelService,
        routing: RoutingService,
        prevalence: PrevalenceService,
        shadow: ShadowService,
        database: Database,
        outbox: OutboxPublisher,
        recorder: Recorder,
        sampler: DriftSampler,
        canary: CanaryJournal,
        disputes: DisputeService,
    ) -> None:
        self._event_source = event_source
        self._event_detections = event_detections
        self._cutouts = cutouts
        self._picture_side = picture_side
        self._inference = inference
        self._models = models
        self._routing = routing
        self._prevalence = prevalence
        self._shadow = shadow
        self._database = database
        self._outbox = outbox
        self._recorder = recorder
        self._sampler = sampler
        self._canary = canary
        self._disputes = disputes

    async def pending(self, submission: Submission, caller: str, key: str | None) -> PendingRun:
        """A new run, not yet scored."""
        began, parts = time.perf_counter(), measure_parts()
        exposure = asyncio.create_task(compute(sha256_of, submission.content))
        digest = "" if key is None else await compute(_digest_of, submission, await exposure)
        return PendingRun(
            run_id=uuid7(),
            caller=caller,
            key=key,
            digest=digest,
            exposure_digest=exposure,
            began=began,
            parts=parts,
        )

    async def earlier(self, pending: PendingRun) -> UUID | None:
        """The run that the run's key was used for before; None if it is new.

        Raises
        ------
        KeyReusedError
            If that run was asked for otherwise.
        """
        if pending.key is None:
            return None
        async with self._database.transaction() as connection:
            return await run_of_key(connection, pending.caller, pending.key, pending.digest)

    async def score_and_store(
        self,
        submission: Submission,
        pending: PendingRun,
        progress: Progress = lambda done, of: None,
    ) -> InferResponse | None:
        """Choose the version, infer, and store the run with its event.

        Parameters
        ----------
        submission
            The exposure, and how to score it.
        pending
            The run.
        progress
            Told of every batch of tiles answered.

        Returns
        -------
        The run; None if meanwhile another one was stored under the run's key.

        Raises
        ------
        InputError
            If the exposure or a candidate cannot be scored.
        GatewayError
            If the model, Triton or PostgreSQL does not do its part; nothing is stored then.
        """
        wanted = submission.request.model_version
        sticky = submission.request.exposure_id or pending.exposure_digest
        run, choice, failed = await attempt(
            self._routing,
            self._recorder,
            wanted,
            sticky,
            pending.began,
            lambda choice: self._run(submission, pending, choice, progress),
        )
        if run is not None and failed is not None:
            self._canary.failed(failed)
        elif run is not None and wanted is None:
            self._canary.answered(choice.version, run.tiles, pending.parts.get("infer", 0.0))
        if run is not None and choice.shadow is not None:
            self._shadow.offer(submission, run, choice.shadow)
        return run

    async def _run(
        self, submission: Submission, pending: PendingRun, choice: Choice, progress: Progress
    ) -> InferResponse | None:
        model = await self._models.get(choice.version)
        stated = await self._prevalence.stated(submission.request, model)
        tiled, scored = await self._inference.infer(
            submission,
            model,
            progress,
            others=await self._others(submission, model),
            prevalence=stated.prevalence,
            prevalence_unused=stated.unused,
        )
        digest = await pending.exposure_digest
        record = await compute(
            self._record, submission, tiled, scored, model, pending.run_id, digest
        )
        with stage("store"):
            stored = await self._store(record, model, choice, pending)
        if not stored:
            return None
        run = record.run
        await compute(count_run, run)
        request = time.perf_counter() - pending.began
        self._recorder.run_stored(run, pending.parts | {"request": request})
        self._sampler.offer(run, scored)
        self._disputes.offer([run.run_id], model.card.nms_radius)
        _log.info(
            "scored run %s: %d detections in %d tiles, %s version %d",
            run.run_id,
            len(run.detections),
            run.tiles,
            model.ref.name,
            model.ref.version,
        )
        return run

    async def _others(self, submission: Submission, model: ServedModel) -> list[ServedModel]:
        """The other versions that Triton serves, if the caller asks for test-time augmentation."""
        if not submission.request.tta:
            return []
        versions = await self._models.served_versions()
        return [await self._models.get(one) for one in versions if one != model.ref.version]

    def _record(
        self,
        submission: Submission,
        tiled: Inference,
        scored: Scored,
        model: ServedModel,
        run_id: UUID,
        exposure_digest: str,
    ) -> _RunRecord:
        run, event_id = answer_of(submission, scored, model, run_id, exposure_digest), uuid7()
        return _RunRecord(
            run=run,
            features=scored.features,
            pictures=pictures_of(tiled, run, self._cutouts),
            picture=overview(
                tiled.exposure, run.image.background, run.image.noise, self._picture_side
            )
            if self._picture_side
            else None,
            event_id=event_id,
            event=scored_event(run, event_id, self._event_source, self._event_detections),
        )

    async def _store(
        self, record: _RunRecord, model: ServedModel, choice: Choice, pending: PendingRun
    ) -> bool:
        run = record.run
        async with self._database.transaction() as connection:
            if pending.in_background:
                if not await complete_job(connection, run.run_id):
                    raise RunGivenUpError("the run was given up before it was complete")
            elif pending.key is not None and not await take_key(
                connection, pending.caller, pending.key, pending.digest, run.run_id
            ):
                return False
            if not await self._routing.still_allows(connection, choice):
                raise ReplacedError
            await insert_model(connection, model.id, model.ref, model.card_json, model.card_digest)
            await insert_run(connection, model.id, run, pending.caller)
            await insert_detections(connection, run.run_id, run.detections, record.features)
            await insert_cutouts(connection, record.pictures)
            if record.picture is not None:
                await insert_picture(connection, run.run_id, record.picture)
            await insert_event(connection, record.event_id, DETECTION_SCORED, record.event)
        self._outbox.wake()
        return True


async def run_of_key(connection: Connection, caller: str, key: str, digest: str) -> UUID | None:
    """The run that a caller's key was used for before; None if it is new.

    Raises
    ------
    KeyReusedError
        If that run was asked for otherwise.
    """
    found = await find_key(connection, caller, key)
    if found is None:
        return None
    before, run_id = found
    if before != digest:
        raise KeyReusedError(
            f"the key {key!r} was used for another request; take a new one for this"
        )
    return run_id


def count_run(run: InferResponse) -> None:
    """Count a stored run and its detections."""
    RUNS.labels(run.model.version).inc()
    kinds = Counter((one.outcome, str(one.is_real).lower()) for one in run.detections)
    for kind, count in kinds.items():
        DETECTIONS.labels(*kind).inc(count)
    for detection in run.detections:
        if detection.confidence is not None:
            CONFIDENCES.observe(detection.confidence)


def sha256_of(content: bytes) -> str:
    """The digest of a file, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def _digest_of(submission: Submission, exposure: str) -> str:
    """SHA-256 of everything, given that of the exposure."""
    whole = hashlib.sha256(exposure.encode())
    for field in PLANE_FIELDS:
        plane = getattr(submission, field)
        whole.update(b"-" if plane is None else hashlib.sha256(plane).digest())
    whole.update((submission.filename or "").encode() + b"\0")
    whole.update(msgspec.json.encode(submission.request))
    return whole.hexdigest()


def pictures_of(tiled: Inference, run: InferResponse, most: int) -> dict[UUID, KeptCutout]:
    """The cut-outs that are kept of a run's most confident detections, by their ids."""
    places = {
        d.id: (d.x, d.y)
        for d in run.detections[:most]
        if d.outcome == "kept" or d.unscored_reason == "masked"
        if d.x is not None and d.y is not None
    }
    at = list(places.values())
    found = cut_out(tiled.exposure, at, run.image.background, run.image.noise)
    none: list[bytes | None] = [None] * len(at)
    science, template = (
        cut_out_unmeasured(tiled.exposure.companions[plane], at)
        if plane in tiled.exposure.companions
        else none
        for plane in COMPANIONS
    )
    return {
        name: KeptCutout(pixels.tobytes(), *others)
        for name, pixels, *others in zip(places, found, science, template, strict=True)
    }


def answer_of(
    submission: Submission,
    scored: Scored,
    model: ServedModel,
    run_id: UUID,
    exposure_digest: str,
) -> InferResponse:
    """What is answered of a scored exposure; its detections get ids."""
    ids = [uuid7() for _ in scored.detections]

    def identified(detection: Detection) -> ScoredDetection:
        named: dict[str, Any] = {"id": ids[detection.id], "merged_into": None}
        if detection.merged_into is not None:
            named["merged_into"] = ids[detection.merged_into]
        return ScoredDetection(**msgspec.structs.asdict(detection) | named)

    request = submission.request
    height, width = scored.shape
    return InferResponse(
        run_id=run_id,
        created_at=datetime.now(UTC),
        model=model.ref,
        exposure=ExposureInfo(
            name=request.exposure_id or submission.filename,
            hdu=printable(scored.hdu) or "?",
            height=height,
            width=width,
            digest=exposure_digest,
            **msgspec.structs.asdict(scored.observation),
        ),
        image=scored.image,
        tiles=scored.tiles,
        threshold=scored.threshold,
        tta=request.tta,
        guarantee=scored.guarantee,
        prevalence=scored.prevalence,
        extracted=scored.extracted,
        flags=scored.flags,
        detections=[identified(detection) for detection in scored.detections],
    )
