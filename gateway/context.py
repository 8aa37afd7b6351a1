"""Everything that the running service shares."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from detection.config import ModelConfig
from gateway.config import Settings
from gateway.services.admission import Admission
from gateway.services.detections import DetectionService
from gateway.services.health import HealthService
from gateway.services.models import ModelService
from gateway.services.outbox import OutboxPublisher
from gateway.services.scoring import ScoringService
from gateway.storage.database import open_database
from gateway.triton import Triton


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What handlers are given."""

    settings: Settings
    admission: Admission
    scoring: ScoringService
    detections: DetectionService
    health: HealthService


@asynccontextmanager
async def open_context(settings: Settings, config: ModelConfig) -> AsyncIterator[Context]:
    """Build the services, publish the outbox meanwhile, and close everything in the end."""
    async with (
        open_database(settings) as database,
        Triton(settings.triton_grpc, timeout=settings.triton_timeout) as triton,
    ):
        outbox = OutboxPublisher(
            database,
            url=settings.nats_url,
            timeout=settings.nats_timeout,
            poll=settings.outbox_poll,
        )
        models = ModelService(config, settings.model_repository, triton)
        context = Context(
            settings=settings,
            admission=Admission(settings.max_runs, settings.max_waiting),
            scoring=ScoringService(
                config=config,
                limits=settings.limits,
                in_flight=settings.triton_in_flight,
                event_source=settings.event_source,
                event_detections=settings.event_detections,
                models=models,
                triton=triton,
                database=database,
                outbox=outbox,
            ),
            detections=DetectionService(database),
            health=HealthService(
                database=database,
                models=models,
                triton=triton,
                interval=settings.canary_interval,
            ),
        )
        publisher = asyncio.create_task(outbox.run(), name="outbox publisher")
        try:
            yield context
        finally:
            publisher.cancel()
            await asyncio.gather(publisher, return_exceptions=True)
