"""A run: from an exposure's bytes to detections answered, stored and told."""

import asyncio
import hashlib
import logging
import math
from datetime import UTC, datetime

import msgspec
from uuid_utils.compat import uuid7

from detection.config import ModelConfig
from detection.exposure import Limits
from detection.scoring import Work, finish, prepare
from detection.types import Detection
from gateway.schemas import ExposureInfo, InferRequest, InferResponse, ScoredDetection
from gateway.services.events import SUBJECT, scored_event
from gateway.services.models import ModelService, ServedModel
from gateway.services.outbox import OutboxPublisher
from gateway.storage.database import Database
from gateway.storage.detections import insert_detections
from gateway.storage.models import insert_model
from gateway.storage.outbox import insert_event
from gateway.storage.runs import insert_run
from gateway.triton import Triton

_log = logging.getLogger(__name__)


class ScoringService:
    """Scores exposures.

    Parameters
    ----------
    config
        Threshold and batch size.
    limits
        The bounds of an exposure.
    in_flight
        Most requests that one run has with Triton at a time.
    event_source, event_detections
        ``source`` of an event, and how many detections it lists at most.
    models, triton, database, outbox
        What a run needs.
    """

    def __init__(
        self,
        *,
        config: ModelConfig,
        limits: Limits,
        in_flight: int,
        event_source: str,
        event_detections: int,
        models: ModelService,
        triton: Triton,
        database: Database,
        outbox: OutboxPublisher,
    ) -> None:
        self._config = config
        self._limits = limits
        self._in_flight = in_flight
        self._event_source = event_source
        self._event_detections = event_detections
        self._models = models
        self._triton = triton
        self._database = database
        self._outbox = outbox

    async def score(
        self, content: bytes, filename: str | None, request: InferRequest
    ) -> InferResponse:
        """Score an exposure. What is returned has been stored, and its event with it.

        Parameters
        ----------
        content
            The file, FITS or ``.npy``.
        filename
            Its name, which names the exposure if the request does not.
        request
            How to score it.

        Raises
        ------
        InputError
            If the exposure or a candidate cannot be scored.
        GatewayError
            If the model, Triton or PostgreSQL does not do its part; nothing is stored then.
        """
        model = await self._models.resolve()
        work = await asyncio.to_thread(
            prepare,
            content,
            model.card,
            request.to_candidates(),
            hdu=request.hdu,
            limits=self._limits,
        )
        await self._infer(work, model)
        threshold = request.confidence_threshold
        if threshold is None:
            threshold = self._config.confidence_threshold
        run = await asyncio.to_thread(
            _finish, work, model, content, request.exposure_id or filename, threshold
        )
        await self._store(run, model)
        _log.info(
            "scored run %s: %d detections in %d tiles, %s version %d",
            run.run_id,
            len(run.detections),
            run.tiles,
            model.ref.name,
            model.ref.version,
        )
        return run

    async def _infer(self, work: Work, model: ServedModel) -> None:
        """Let Triton see every tile, in batches that its instances can share."""
        count = len(work.tiles)
        size = min(self._config.batch_size, math.ceil(count / self._in_flight))
        starts = iter(range(0, count, size))

        async def send() -> None:
            for start in starts:
                tiles = work.batch(start, min(start + size, count))
                work.accept(start, await self._triton.infer(model.card, model.ref.version, tiles))

        try:
            async with asyncio.TaskGroup() as senders:
                for _ in range(self._in_flight):
                    senders.create_task(send())
        except ExceptionGroup as group:
            # One fault fails the run; that others failed of it too adds nothing.
            raise group.exceptions[0] from None

    async def _store(self, run: InferResponse, model: ServedModel) -> None:
        event_id = uuid7()
        event = scored_event(run, event_id, self._event_source, self._event_detections)
        async with self._database.transaction() as connection:
            await insert_model(connection, model.id, model.ref, model.card_json, model.card_digest)
            await insert_run(connection, model.id, run)
            await insert_detections(connection, run.run_id, run.detections)
            await insert_event(connection, event_id, SUBJECT, event)
        self._outbox.wake()


def _finish(
    work: Work, model: ServedModel, content: bytes, name: str | None, threshold: float
) -> InferResponse:
    scored = finish(work, threshold=threshold)
    ids = [uuid7() for _ in scored.detections]

    def identified(index: int, detection: Detection) -> ScoredDetection:
        fields = msgspec.structs.asdict(detection)
        if detection.merged_into is not None:
            fields["merged_into"] = ids[detection.merged_into]
        return ScoredDetection(id=ids[index], rank=index + 1, **fields)

    height, width = scored.shape
    return InferResponse(
        run_id=uuid7(),
        created_at=datetime.now(UTC),
        model=model.ref,
        exposure=ExposureInfo(
            name=name,
            hdu=scored.hdu,
            height=height,
            width=width,
            digest=hashlib.sha256(content).hexdigest(),
        ),
        image=scored.image,
        tiles=scored.tiles,
        threshold=threshold,
        extracted=scored.extracted,
        flags=scored.flags,
        detections=[identified(*pair) for pair in enumerate(scored.detections)],
    )
