"""Everything that the running service shares."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from detection.config import ModelConfig
from gateway.config import Settings
from gateway.objects import ObjectStore
from gateway.oidc import TokenVerifier
from gateway.services.access import AccessService
from gateway.services.admission import Admission
from gateway.services.catalogue import CatalogueService
from gateway.services.detections import DetectionService
from gateway.services.health import HealthService
from gateway.services.models import ModelService
from gateway.services.outbox import OutboxPublisher
from gateway.services.routing import RoutingService
from gateway.services.runs import RunService
from gateway.services.scorer import Scorer
from gateway.services.scoring import ScoringService
from gateway.services.shadow import ShadowService
from gateway.storage.database import Database, open_database
from gateway.triton import Triton


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What handlers are given."""

    settings: Settings
    access: AccessService
    admission: Admission
    objects: ObjectStore
    runs: RunService
    detections: DetectionService
    catalogue: CatalogueService
    routing: RoutingService
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
        admission = Admission(settings.max_runs, settings.max_waiting)
        models = ModelService(config, settings.model_repository, triton)
        routing = RoutingService(
            database=database, models=models, outbox=outbox, event_source=settings.event_source
        )
        scorer = Scorer(
            config=config,
            limits=settings.limits,
            in_flight=settings.triton_in_flight,
            triton=triton,
        )
        shadow = ShadowService(admission=admission, scorer=scorer, models=models, database=database)
        scoring = ScoringService(
            event_source=settings.event_source,
            event_detections=settings.event_detections,
            cutouts=settings.cutouts,
            scorer=scorer,
            models=models,
            routing=routing,
            shadow=shadow,
            database=database,
            outbox=outbox,
        )
        context = Context(
            settings=settings,
            access=_access(settings, database),
            admission=admission,
            objects=ObjectStore(
                settings.s3_buckets,
                endpoint=settings.s3_endpoint,
                region=settings.s3_region,
                timeout=settings.s3_timeout,
            ),
            runs=RunService(scoring, database),
            detections=DetectionService(database),
            catalogue=CatalogueService(database, models),
            routing=routing,
            health=HealthService(
                database=database,
                models=models,
                routing=routing,
                triton=triton,
                outbox=outbox,
                interval=settings.canary_interval,
            ),
        )
        background = [
            asyncio.create_task(outbox.run(), name="outbox publisher"),
            asyncio.create_task(shadow.run(), name="challenger in the shadow"),
        ]
        try:
            async with context.runs.keeping_house():
                yield context
                await context.runs.drain(settings.shutdown_timeout)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)


def _access(settings: Settings, database: Database) -> AccessService:
    verifier = None
    if settings.oidc_issuer is not None and settings.oidc_audience is not None:
        verifier = TokenVerifier(
            settings.oidc_issuer, settings.oidc_audience, settings.oidc_jwks_url
        )
    return AccessService(
        database,
        required=settings.auth == "required",
        verifier=verifier,
        rate_per_minute=settings.rate_per_minute,
        concurrency=settings.concurrency,
    )
