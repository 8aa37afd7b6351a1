"""Many stamps in one request: a run for each, inferred together and stored at once."""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import msgspec
import numpy as np
from uuid_utils.compat import uuid7

from astrotriton.detection.errors import InputError, PlaneMissingError
from astrotriton.detection.image.exposure import Exposure, Limits
from astrotriton.detection.image.observation import observation_of
from astrotriton.detection.scoring.inference import Inference
from astrotriton.detection.scoring.score import (
    finish,
    guarantee_of,
    prepare_exposure,
    prevalence_of,
)
from astrotriton.detection.scoring.scored import Scored
from astrotriton.gateway.compute import compute
from astrotriton.gateway.errors import RunGivenUpError, problem_of
from astrotriton.gateway.observability.metrics import measure_parts, stage
from astrotriton.gateway.services.admission import Place
from astrotriton.gateway.services.attempts import ReplacedError, attempt
from astrotriton.gateway.services.canary.journal import CanaryJournal
from astrotriton.gateway.services.disputes import DisputeService
from astrotriton.gateway.services.drift.sampler import DriftSampler
from astrotriton.gateway.services.events import DETECTION_SCORED, EventSource, scored_event
from astrotriton.gateway.services.inference import InferenceService, Submission
from astrotriton.gateway.services.models import ModelService, ServedModel
from astrotriton.gateway.services.outbox import OutboxPublisher
from astrotriton.gateway.services.prevalence import PrevalenceService, Stated
from astrotriton.gateway.services.recorder import Recorder
from astrotriton.gateway.services.routing import Choice, RoutingService
from astrotriton.gateway.services.scoring import (
    answer_of,
    count_run,
    pictures_of,
    run_of_key,
    sha256_of,
)
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.detections import (
    KeptCutout,
    insert_cutouts,
    insert_detections_of,
)
from astrotriton.gateway.storage.jobs import find_places, take_key, take_places
from astrotriton.gateway.storage.models import insert_model
from astrotriton.gateway.storage.outbox import insert_events
from astrotriton.gateway.storage.runs import find_run, insert_runs
from astrotriton.wire.exposures import Observation
from astrotriton.wire.problems import Problem
from astrotriton.wire.runs import InferRequest, InferResponse
from astrotriton.wire.stamps import MOST_STAMPS, InferStamps, InferStampsResponse, ScoredStamp

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StampSubmission:
    """A cube that a caller wants scored, FITS or ``.npy``, and how."""

    content: bytes
    request: InferStamps


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """A stamp that was scored: its run, and what is stored of it."""

    place: int
    run: InferResponse
    scored: Scored
    pictures: dict[UUID, KeptCutout]


class StampService:
    """Scores the stamps of a cube: each has a run and an event of its own, in one transaction.

    Parameters
    ----------
    event_source, event_detections, cutouts, limits
        As `ScoringService` has them.
    inference, models, routing, prevalence, database, outbox
        What the runs need.
    recorder, sampler, canary, disputes
        What is told of them.
    """

    def __init__(
        self,
        *,
        event_source: EventSource,
        event_detections: int,
        cutouts: int,
        limits: Limits,
        inference: InferenceService,
        models: ModelService,
        routing: RoutingService,
        prevalence: PrevalenceService,
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
        self._limits = limits
        self._inference = inference
        self._models = models
        self._routing = routing
        self._prevalence = prevalence
        self._database = database
        self._outbox = outbox
        self._recorder = recorder
        self._sampler = sampler
        self._canary = canary
        self._disputes = disputes

    async def score(
        self, submission: StampSubmission, place: Place, caller: str, key: str | None
    ) -> InferStampsResponse:
        """Score every stamp, or find what the same key was answered before.

        Raises
        ------
        InputError
            If the cube cannot be read, the request fits none of its stamps, or the version needs
            more than stamps show.
        KeyReusedError
            If the key was used for another request.
        GatewayError
            If the model, Triton or PostgreSQL does not do its part; nothing is stored then.
        """
        began, parts = time.perf_counter(), measure_parts()
        digest = await compute(_digest_of, submission)
        async with place.turn():
            stamps = await self._inference.read_cube(submission.content, submission.request.hdu)
            _check(submission.request, stamps)
            if key is not None and (found := await self._earlier(caller, key, digest)) is not None:
                return await self._answered(submission.request, stamps, found)
            wanted = submission.request.model_version
            answer, choice, failed = await attempt(
                self._routing,
                self._recorder,
                wanted,
                digest,
                began,
                lambda choice: self._score(
                    submission.request, stamps, choice, caller, key, digest, began, parts
                ),
            )
        if answer is None:  # another request with the key was faster
            assert key is not None
            found = await self._earlier(caller, key, digest)
            if found is None:
                raise RunGivenUpError(
                    "another request with this key has just failed; send it again"
                )
            return await self._answered(submission.request, stamps, found)
        if failed is not None:
            self._canary.failed(failed)
        elif wanted is None:
            self._canary.answered(choice.version, len(stamps), parts.get("infer", 0.0))
        return answer

    async def _score(
        self,
        request: InferStamps,
        stamps: Sequence[Exposure],
        choice: Choice,
        caller: str,
        key: str | None,
        digest: str,
        began: float,
        parts: dict[str, float],
    ) -> InferStampsResponse | None:
        model = await self._models.get(choice.version)
        stated = await self._prevalence.stated(request.of(0, stamps[0].shape), model)
        with stage("prepare"):
            prepared = await compute(self._prepare, request, stamps, model, stated)
        ready = {i: one for i, one in enumerate(prepared) if isinstance(one, Inference)}
        if ready:
            await self._inference.infer_together(list(ready.values()), model)
        with stage("finish"):
            found = await asyncio.gather(
                *(compute(self._finish, some, request, model, stated) for some in _shared(ready))
            )
        stored = [one for some in found for one in some]
        with stage("store"):
            if stored and not await self._store(stored, model, choice, caller, key, digest):
                return None
        request_seconds = time.perf_counter() - began
        for one in stored:
            count_run(one.run)
            share = {part: value / len(stored) for part, value in parts.items()}
            self._recorder.run_stored(one.run, share | {"request": request_seconds})
            self._sampler.offer(one.run, one.scored)
        if stored:
            self._disputes.offer([one.run.run_id for one in stored], model.card.nms_radius)
        _log.info(
            "scored %d of %d stamps, %s version %d",
            *(len(stored), len(stamps), model.ref.name, model.ref.version),
        )
        runs = {one.place: one.run for one in stored}
        problems = {i: one for i, one in enumerate(prepared) if isinstance(one, Problem)}
        return _answer(request, stamps, runs, problems)

    def _prepare(
        self,
        request: InferStamps,
        stamps: Sequence[Exposure],
        model: ServedModel,
        stated: Stated,
    ) -> list[Inference | Problem]:
        found: list[Inference | Problem] = []
        for place, stamp in enumerate(stamps):
            how = request.of(place, stamp.shape)
            stamp.observation = _observed(stamp, how)
            try:
                one = prepare_exposure(
                    stamp,
                    model.card,
                    how.to_candidates(),
                    seeing=None if how.seeing_fwhm is None else (how.seeing_fwhm, "px"),
                    tta=how.tta,
                    polarity=how.polarity,
                    limits=self._limits,
                )
            except PlaneMissingError as error:
                raise PlaneMissingError(
                    error.code,
                    "request.model_version",
                    f"stamps show the difference alone, and {model.ref.name} version"
                    f" {model.ref.version} needs the {error.field} image too: ask for a version"
                    " that does without it, or send exposures",
                ) from error
            except InputError as error:
                error.field = f"stamps[{place}]"
                found.append(problem_of(error))
                continue
            prevalence = prevalence_of(model.card, one.views, stated.prevalence)
            guarantee_of(one, how.max_false_discovery_rate, prevalence)
            found.append(one)
        return found

    def _finish(
        self,
        prepared: dict[int, Inference],
        request: InferStamps,
        model: ServedModel,
        stated: Stated,
    ) -> list[_Stored]:
        found, ids = [], sorted(uuid7() for _ in prepared)
        for run_id, (place, one) in zip(ids, prepared.items(), strict=True):
            how = request.of(place, one.exposure.shape)
            threshold = how.confidence_threshold
            prevalence = prevalence_of(model.card, one.views, stated.prevalence)
            scored = finish(
                one,
                threshold=self._inference.threshold if threshold is None else threshold,
                guarantee=guarantee_of(one, how.max_false_discovery_rate, prevalence),
                prevalence=prevalence,
                prevalence_unused=stated.unused,
                limits=self._limits,
            )
            scored = _in_the_sky(scored, how)
            submission = Submission(content=b"", request=how)
            digest = sha256_of(np.ascontiguousarray(one.exposure.stored.array).tobytes())
            run = answer_of(submission, scored, model, run_id, digest)
            pictures = pictures_of(one, run, self._cutouts)
            found.append(_Stored(place=place, run=run, scored=scored, pictures=pictures))
        return found

    async def _store(
        self,
        stored: Sequence[_Stored],
        model: ServedModel,
        choice: Choice,
        caller: str,
        key: str | None,
        digest: str,
    ) -> bool:
        runs = [one.run for one in stored]
        events = []
        for run in runs:
            event_id = uuid7()
            events.append(
                (event_id, scored_event(run, event_id, self._event_source, self._event_detections))
            )
        async with self._database.transaction() as connection:
            if key is not None:
                if not await take_key(connection, caller, key, digest, runs[0].run_id):
                    return False
                places = {one.place: one.run.run_id for one in stored}
                await take_places(connection, caller, key, digest, places)
            if not await self._routing.still_allows(connection, choice):
                raise ReplacedError
            await insert_model(connection, model.id, model.ref, model.card_json, model.card_digest)
            await insert_runs(connection, model.id, runs, caller)
            await insert_detections_of(
                connection,
                [(one.run.run_id, one.run.detections, one.scored.features) for one in stored],
            )
            pictures = {name: kept for one in stored for name, kept in one.pictures.items()}
            await insert_cutouts(connection, pictures)
            await insert_events(connection, DETECTION_SCORED, events)
        self._outbox.wake()
        return True

    async def _earlier(self, caller: str, key: str, digest: str) -> dict[int, UUID] | None:
        """The runs that the key was used for before, by their places; None if it is new."""
        async with self._database.transaction() as connection:
            if await run_of_key(connection, caller, key, digest) is None:
                return None
            return await find_places(connection, caller, key)

    async def _answered(
        self, request: InferStamps, stamps: Sequence[Exposure], places: dict[int, UUID]
    ) -> InferStampsResponse:
        """What was answered before; why a stamp was not scored is found again."""
        runs: dict[int, InferResponse] = {}
        async with self._database.transaction() as connection:
            for place, run_id in places.items():
                if (run := await find_run(connection, run_id)) is not None:
                    runs[place] = run
        problems: dict[int, Problem] = {}
        if missing := [place for place in range(len(stamps)) if place not in runs]:
            version = next(iter(runs.values())).model.version
            model = await self._models.get(version)
            prepared = await compute(self._prepare, request, stamps, model, Stated(None))
            given_up = problem_of(RunGivenUpError("it could not be scored at first; send it alone"))
            for place in missing:
                one = prepared[place]
                problems[place] = one if isinstance(one, Problem) else given_up
        return _answer(request, stamps, runs, problems)


def _check(request: InferStamps, stamps: Sequence[Exposure]) -> None:
    """Check that there are as many stamps as are described, each named once."""
    count = len(stamps)
    if count > MOST_STAMPS:
        raise InputError(
            "too-many-stamps", "stamps", f"{count} of them; send at most {MOST_STAMPS} at a time"
        )
    if request.stamps is None:
        return
    if len(request.stamps) != count:
        raise InputError(
            "invalid-request",
            "request.stamps",
            f"{len(request.stamps)} are described, and the cube has {count}: describe each",
        )


def _observed(stamp: Exposure, how: InferRequest) -> Observation:
    """How a stamp was taken: what is said of it, and what the header says of all."""
    said = msgspec.structs.asdict(observation_of((), how.to_observation()))
    given = {name: value for name, value in said.items() if value is not None}
    return msgspec.structs.replace(stamp.observation, **given)


def _in_the_sky(scored: Scored, how: InferRequest) -> Scored:
    """With the candidate's position in the sky as it was sent: a stamp has no WCS to say it."""
    sent = (how.to_candidates() or [])[0]
    if not math.isfinite(sent.ra):
        return scored
    detections = [
        msgspec.structs.replace(one, ra=sent.ra, dec=sent.dec)
        if one.candidate_id == sent.id and one.ra is None
        else one
        for one in scored.detections
    ]
    return msgspec.structs.replace(scored, detections=detections)


def _shared(ready: dict[int, Inference]) -> list[dict[int, Inference]]:
    """In pieces that several threads work off."""
    size = max(1, math.ceil(len(ready) / 4))
    items = list(ready.items())
    return [dict(items[start : start + size]) for start in range(0, len(items), size)]


def _answer(
    request: InferStamps,
    stamps: Sequence[Exposure],
    runs: dict[int, InferResponse],
    problems: dict[int, Problem],
) -> InferStampsResponse:
    found = []
    for place, stamp in enumerate(stamps):
        name = request.of(place, stamp.shape).exposure_id
        assert name is not None
        found.append(ScoredStamp(id=name, run=runs.get(place), problem=problems.get(place)))
    model = next((run.model for run in runs.values()), None)
    return InferStampsResponse(model=model, stamps=found)


def _digest_of(submission: StampSubmission) -> str:
    whole = hashlib.sha256(b"stamps\0" + hashlib.sha256(submission.content).digest())
    whole.update(msgspec.json.encode(submission.request))
    return whole.hexdigest()
