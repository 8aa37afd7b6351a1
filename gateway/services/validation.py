"""Validating a version: the evaluation of the science, through the model as it is served."""

import asyncio
import logging
import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from uuid_utils.compat import uuid7

from astrotriton.detection.errors import InputError
from astrotriton.detection.quality.criteria import (
    GateLimits,
    accuracy,
    accuracy_change,
    calibration,
)
from astrotriton.detection.quality.figures import ScoredField, curves, figures
from astrotriton.detection.quality.transients import Transients
from astrotriton.gateway.errors import (
    PROBLEM_PREFIX,
    BusyError,
    NotFoundError,
    RetryLaterError,
    RunGivenUpError,
    problem_of,
)
from astrotriton.gateway.jobs import Jobs
from astrotriton.gateway.observability.metrics import VALIDATION_ECE, VALIDATION_PASSED
from astrotriton.gateway.periodic import repeat
from astrotriton.gateway.services.admission import Admission
from astrotriton.gateway.services.catalogue import CatalogueService
from astrotriton.gateway.services.datasets import DEFAULT, Dataset, Datasets
from astrotriton.gateway.services.events import VALIDATED, EventSource, validated_event
from astrotriton.gateway.services.inference import InferenceService, Submission
from astrotriton.gateway.services.models import ModelService, ServedModel
from astrotriton.gateway.services.outbox import OutboxPublisher
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.outbox import insert_event
from astrotriton.gateway.storage.validations import (
    Result,
    beat,
    complete,
    fail,
    fail_abandoned,
    find_validation,
    insert_validation,
    latest_of_versions,
    list_validations,
)
from astrotriton.wire.events import ValidatedEvent
from astrotriton.wire.models import VersionRef
from astrotriton.wire.problems import Problem
from astrotriton.wire.validation import Gate, ValidateIn, Validation

_MOST = 4
_BEAT = 5.0
_SILENCE = timedelta(seconds=60)
_TRIES = 5
_WAIT_FOR_CALLERS = 30.0

_ABANDONED = Problem(
    type=PROBLEM_PREFIX + RunGivenUpError.code,
    title=RunGivenUpError.title,
    status=RunGivenUpError.status,
    detail="the gateway that validated has ended",
)

_log = logging.getLogger(__name__)


class ValidationService:
    """Scores labelled exposures with a version in the background, one validation at a time.

    A validation belongs to the gateway that took it, which says every few seconds that it is still
    at it; one that nobody has spoken for in a minute is given up by whichever gateway notices.

    Parameters
    ----------
    event_source
        ``source`` of an event.
    limits
        Of the gates, those of promotion.
    database, catalogue, models, datasets, inference, admission, outbox
        What a validation needs.
    """

    def __init__(
        self,
        *,
        event_source: EventSource,
        limits: GateLimits,
        database: Database,
        catalogue: CatalogueService,
        models: ModelService,
        datasets: Datasets,
        inference: InferenceService,
        admission: Admission,
        outbox: OutboxPublisher,
    ) -> None:
        self._event_source = event_source
        self._limits = limits
        self._database = database
        self._catalogue = catalogue
        self._models = models
        self._datasets = datasets
        self._inference = inference
        self._admission = admission
        self._outbox = outbox
        self._turn = asyncio.Lock()
        self._jobs = Jobs("validation", self._fail)

    async def start(self, model_id: str, asked: ValidateIn, caller: str) -> Validation:
        """Begin to validate a version.

        Raises
        ------
        NotFoundError
            If there is no such version, or no such one to compare with.
        InputError
            If the one to compare with is of another model, or the data set may not be read.
        BusyError
            If enough validations wait already.
        """
        model = await self._version(model_id)
        other, compared = None, None
        if asked.compare_with is not None:
            other = await self._version(asked.compare_with)
            if other.name != model.name:
                raise InputError("other-model", "compare_with", f"{other.name} is another model")
            compared = other.version
        dataset = asked.dataset or DEFAULT
        self._datasets.check(dataset)
        if len(self._jobs) >= _MOST:
            raise BusyError(f"{len(self._jobs)} validations wait already; try again later")
        validation_id = uuid7()
        async with self._database.transaction() as connection:
            await insert_validation(connection, validation_id, model, compared, dataset, caller)
        self._jobs.start(validation_id, lambda: self._work(validation_id, model, other, dataset))
        return await self.get(validation_id)

    async def get(self, validation_id: UUID) -> Validation:
        """A validation, and how far it is.

        Raises
        ------
        NotFoundError
            If there is none of that id.
        """
        async with self._database.transaction() as connection:
            found = await find_validation(connection, validation_id)
        if found is None:
            raise NotFoundError(f"no validation has the id {validation_id}")
        return found

    async def of_model(self, model_id: str, limit: int) -> list[Validation]:
        """The newest validations of a version.

        Raises
        ------
        NotFoundError
            If there is no such version.
        """
        model = await self._version(model_id)
        async with self._database.transaction() as connection:
            return await list_validations(connection, model.name, model.version, limit)

    async def run(self) -> None:
        """Speak for the validations under way, and give up those that nobody speaks for."""
        try:
            await repeat(self._keep_house, _BEAT, what="validations are not looked after", log=_log)
        finally:
            await self._jobs.give_up()

    async def _keep_house(self) -> None:
        async with self._database.transaction() as connection:
            for validation_id, (done, of) in self._jobs.progress.items():
                await beat(connection, validation_id, done, of)
            await fail_abandoned(connection, _SILENCE, _ABANDONED)
            for row in await latest_of_versions(connection, self._models.name):
                labels = (self._models.name, row["model_version"])
                VALIDATION_ECE.labels(*labels).set(math.nan if row["ece"] is None else row["ece"])
                VALIDATION_PASSED.labels(*labels).set(row["passed"])

    async def _work(
        self, validation_id: UUID, model: VersionRef, other: VersionRef | None, dataset: str
    ) -> None:
        async with self._turn:
            await self._validate(validation_id, model, other, dataset)

    async def _fail(self, validation_id: UUID, error: BaseException) -> None:
        _log.warning("validation %s failed: %s", validation_id, error)
        async with self._database.transaction() as connection:
            await fail(connection, validation_id, problem_of(error))

    async def _validate(
        self, validation_id: UUID, ref: VersionRef, other_ref: VersionRef | None, name: str
    ) -> None:
        model = await self._models.get(ref.version)
        other = None if other_ref is None else await self._models.get(other_ref.version)
        opened = await self._datasets.open(name, ref.version)
        of = len(opened.exposures)
        versions = [model] if other is None else [model, other]
        companions = {one for version in versions for one in version.card.companions}
        scored: list[ScoredField] = []
        compared: list[ScoredField] = []
        for done, exposure in enumerate(opened.exposures):
            self._jobs.tell(validation_id, done, of)
            submission = await exposure.submission(companions)
            scored.append(await self._score(submission, exposure.truth, model))
            if other is not None:
                compared.append(await self._score(submission, exposure.truth, other))
        self._jobs.tell(validation_id, of, of)
        result, passed = await asyncio.to_thread(
            _judge, opened, self._limits, model, scored, other, compared
        )
        await self._store(validation_id, ref, name, result, passed)

    async def _score(
        self, submission: Submission, truth: Transients, model: ServedModel
    ) -> ScoredField:
        with suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_FOR_CALLERS):
                while self._admission.crowded:
                    await asyncio.sleep(0.1)
        for left in reversed(range(_TRIES)):
            try:
                _, scored = await self._inference.infer(submission, model, truth=truth)
            except InputError as error:
                raise InputError(error.code, submission.filename or "?", error.detail) from error
            except RetryLaterError as error:
                if not left:
                    raise
                await asyncio.sleep(error.retry_after)
            else:
                return await asyncio.to_thread(ScoredField.of, scored.detections, truth, model.card)
        raise AssertionError("unreachable")

    async def _store(
        self, validation_id: UUID, ref: VersionRef, dataset: str, result: Result, passed: bool
    ) -> None:
        event_id = uuid7()
        event = validated_event(
            ValidatedEvent(
                validation_id=validation_id,
                name=ref.name,
                version=ref.version,
                dataset=dataset,
                passed=passed,
                failed_gates=[gate.name for gate in result.gates if not gate.passed],
                figures=result.figures,
            ),
            datetime.now(UTC),
            event_id,
            self._event_source,
        )
        async with self._database.transaction() as connection:
            done, of = self._jobs.progress[validation_id]
            await beat(connection, validation_id, done, of)
            if not await complete(connection, validation_id, result, passed):
                raise RunGivenUpError("the validation was given up before it was complete")
            await insert_event(connection, event_id, VALIDATED, event)
        self._outbox.wake()

    async def _version(self, model_id: str) -> VersionRef:
        info = await self._catalogue.get(model_id)
        return VersionRef(name=info.name, version=info.version)


def _judge(
    dataset: Dataset,
    limits: GateLimits,
    model: ServedModel,
    scored: list[ScoredField],
    other: ServedModel | None,
    compared: list[ScoredField],
) -> tuple[Result, bool]:
    """The figures, and whether every gate lets them pass."""
    own = figures(scored, model.card)
    gates: list[Gate] = [accuracy(own, limits)]
    theirs: dict[str, float] = {}
    if other is not None:
        theirs = figures(compared, other.card)
        gates.append(accuracy_change(own, theirs, limits))
    gates.append(calibration(own, limits, champion=theirs or None))
    result = Result(
        description=dataset.description,
        dataset_digest=dataset.digest,
        source=dataset.source,
        gates=gates,
        figures=_finite(own),
        compared=_finite(theirs),
        curves=curves(scored),
        compared_curves=curves(compared) if compared else None,
    )
    return result, all(gate.passed for gate in gates)


def _finite(found: dict[str, float]) -> dict[str, float | None]:
    return {name: float(value) if math.isfinite(value) else None for name, value in found.items()}
