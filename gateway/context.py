"""Everything that the running service shares."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from astrotriton.gateway.backends.mlflow import MlflowRuns
from astrotriton.gateway.backends.object_store import ObjectStore
from astrotriton.gateway.backends.oidc import TokenVerifier
from astrotriton.gateway.backends.stream import Retention
from astrotriton.gateway.backends.triton import Triton
from astrotriton.gateway.readers.pool import Readers
from astrotriton.gateway.readers.process import ForkServer
from astrotriton.gateway.services.access import AccessService
from astrotriton.gateway.services.admission import Admission
from astrotriton.gateway.services.agreement import AgreementService
from astrotriton.gateway.services.canaries import CanaryService
from astrotriton.gateway.services.canary.book import CanaryBook
from astrotriton.gateway.services.canary.journal import CanaryJournal
from astrotriton.gateway.services.catalogue import CatalogueService
from astrotriton.gateway.services.datasets import Datasets
from astrotriton.gateway.services.detections import DetectionService
from astrotriton.gateway.services.disputes import DisputeService
from astrotriton.gateway.services.drift.sampler import DriftSampler
from astrotriton.gateway.services.drift.service import DriftService
from astrotriton.gateway.services.durability import DurabilityService
from astrotriton.gateway.services.events import EventSource
from astrotriton.gateway.services.exposures import ExposureService
from astrotriton.gateway.services.following import FollowService
from astrotriton.gateway.services.health import HealthService
from astrotriton.gateway.services.inference import InferenceService
from astrotriton.gateway.services.labels import LabelService
from astrotriton.gateway.services.models import ModelFiles, ModelService
from astrotriton.gateway.services.outbox import OutboxPublisher
from astrotriton.gateway.services.performance import PerformanceService
from astrotriton.gateway.services.pictures import PictureService
from astrotriton.gateway.services.prevalence import PrevalenceService
from astrotriton.gateway.services.recorder import Recorder
from astrotriton.gateway.services.routing import RoutingService
from astrotriton.gateway.services.runs import RunService
from astrotriton.gateway.services.scoring import ScoringService
from astrotriton.gateway.services.shadow import ShadowService
from astrotriton.gateway.services.stamps import StampService
from astrotriton.gateway.services.tracking import TrackingService
from astrotriton.gateway.services.validation import ValidationService
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.storage.database import Database, open_database
from astrotriton.settings import GateSettings, ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What handlers are given."""

    settings: GatewaySettings
    model: str
    access: AccessService
    admission: Admission
    objects: ObjectStore
    readers: Readers
    runs: RunService
    stamps: StampService
    detections: DetectionService
    following: FollowService
    labels: LabelService
    exposures: ExposureService
    pictures: PictureService
    catalogue: CatalogueService
    routing: RoutingService
    prevalence: PrevalenceService
    canary: CanaryService
    performance: PerformanceService
    agreement: AgreementService
    validations: ValidationService
    drift: DriftService
    health: HealthService


@asynccontextmanager
async def open_context(
    settings: GatewaySettings, config: ModelConfig, fork_server: ForkServer | None = None
) -> AsyncIterator[Context]:
    """Build the services, publish the outbox meanwhile, and close everything in the end."""
    async with (
        open_database(settings) as database,
        Triton(
            settings.triton_grpc,
            timeout=settings.triton_timeout,
            share=settings.triton_shared_memory,
        ) as triton,
        Readers(
            most=settings.most_readers,
            uses=settings.reader_uses,
            memory=settings.reader_memory,
            seconds=settings.reader_seconds,
            room=4 * settings.max_bytes + settings.max_request_part,
            server=fork_server,
        ) as readers,
    ):
        outbox = OutboxPublisher(
            database,
            url=settings.nats_url,
            timeout=settings.nats_timeout,
            poll=settings.outbox_poll,
            retention=Retention(settings.nats_max_age, settings.nats_max_bytes),
        )
        event_source = EventSource(settings.event_source, f"{settings.own_url}/schema/events")
        admission = Admission(
            settings.max_runs,
            settings.max_waiting,
            settings.max_held_bytes,
            settings.caller_share,
        )
        models = open_models(settings, config, triton)
        book = CanaryBook(settings.canary_plan, settings.canary_tolerances, event_source)
        routing = RoutingService(
            database=database,
            models=models,
            outbox=outbox,
            event_source=event_source,
            book=book,
            canary_pairs=settings.canary_pairs,
        )
        journal = CanaryJournal(database)
        canary = CanaryService(
            name=models.name,
            interval=settings.canary_interval,
            database=database,
            routing=routing,
            journal=journal,
            book=book,
            outbox=outbox,
        )
        inference = InferenceService(
            config=config,
            limits=settings.limits,
            in_flight=settings.triton_in_flight,
            triton=triton,
            readers=readers,
        )
        shadow = ShadowService(
            admission=admission,
            inference=inference,
            models=models,
            database=database,
            canary=journal,
        )
        recorder = Recorder(models.name, database, triton, settings.triton_metrics_port)
        sampler = DriftSampler(models.name, database, settings.drift_samples)
        disputes = DisputeService(database)
        prevalence = PrevalenceService(
            database=database,
            models=models,
            routing=routing,
            exposures=settings.prevalence_exposures,
            refresh=settings.prevalence_refresh,
        )
        scoring = ScoringService(
            event_source=event_source,
            event_detections=settings.event_detections,
            cutouts=settings.cutouts,
            picture_side=settings.picture_side,
            inference=inference,
            models=models,
            routing=routing,
            prevalence=prevalence,
            shadow=shadow,
            database=database,
            outbox=outbox,
            recorder=recorder,
            sampler=sampler,
            canary=journal,
            disputes=disputes,
        )
        catalogue = CatalogueService(database, models)
        objects = open_objects(settings, settings.s3_buckets)
        limits = GateSettings()
        tracking = open_tracking(settings, config, limits, database, models)
        validations = ValidationService(
            event_source=event_source,
            limits=limits,
            database=database,
            catalogue=catalogue,
            models=models,
            datasets=Datasets(models, objects, settings.max_bytes, tracking.find_input, readers),
            inference=inference,
            admission=admission,
            outbox=outbox,
        )
        drift = DriftService(
            event_source=event_source,
            window=settings.drift_window,
            interval=settings.drift_interval,
            report_url=settings.report_url,
            makes_reports=settings.worker == "inside",
            reports=open_objects(settings, settings.report_buckets),
            database=database,
            catalogue=catalogue,
            models=models,
            sampler=sampler,
            outbox=outbox,
        )
        verifier = _verifier(settings)
        detections = DetectionService(database)
        context = Context(
            settings=settings,
            model=models.name,
            access=AccessService(
                database,
                required=settings.auth == "required",
                verifier=verifier,
                rate_per_minute=settings.rate_per_minute,
                concurrency=settings.concurrency,
            ),
            admission=admission,
            objects=objects,
            readers=readers,
            runs=RunService(scoring, database),
            stamps=StampService(
                event_source=event_source,
                event_detections=settings.event_detections,
                cutouts=settings.cutouts,
                limits=settings.limits,
                inference=inference,
                models=models,
                routing=routing,
                prevalence=prevalence,
                database=database,
                outbox=outbox,
                recorder=recorder,
                sampler=sampler,
                canary=journal,
                disputes=disputes,
            ),
            detections=detections,
            following=FollowService(
                detections,
                poll=settings.stream_poll,
                heartbeat=settings.stream_heartbeat,
                longest=settings.stream_seconds,
                most=settings.max_streams,
                most_of_one=settings.caller_streams,
            ),
            labels=LabelService(database),
            exposures=ExposureService(database),
            pictures=PictureService(database),
            catalogue=catalogue,
            routing=routing,
            prevalence=prevalence,
            canary=canary,
            performance=PerformanceService(database, catalogue, recorder),
            agreement=AgreementService(database, catalogue),
            validations=validations,
            drift=drift,
            health=HealthService(
                database=database,
                models=models,
                routing=routing,
                triton=triton,
                outbox=outbox,
                interval=settings.probe_interval,
            ),
        )
        background = [
            asyncio.create_task(outbox.run(), name="outbox publisher"),
            asyncio.create_task(DurabilityService(database).run(), name="durability"),
            asyncio.create_task(context.following.run(), name="those who follow along"),
            asyncio.create_task(shadow.run(), name="version in the shadow"),
            asyncio.create_task(disputes.run(), name="disputes"),
            asyncio.create_task(canary.run(), name="canary"),
            asyncio.create_task(recorder.run(), name="recorder"),
            asyncio.create_task(sampler.run(), name="drift samples"),
            asyncio.create_task(drift.run(), name="drift"),
            asyncio.create_task(validations.run(), name="validations"),
        ]
        if verifier is not None:
            background.append(asyncio.create_task(verifier.keep_keys(), name="issuer's keys"))
        if settings.worker == "inside":
            background.append(asyncio.create_task(tracking.run(), name="tracking"))
        try:
            async with context.runs.keeping_house():
                yield context
                await context.runs.drain(settings.shutdown_timeout)
        finally:
            for task in background:
                task.cancel()
            await context.health.aclose()
            await asyncio.gather(*background, return_exceptions=True)


def _verifier(settings: GatewaySettings) -> TokenVerifier | None:
    if settings.oidc_issuer is None or settings.oidc_audience is None:
        return None
    return TokenVerifier(settings.oidc_issuer, settings.oidc_audience, settings.oidc_jwks_url)


def open_models(settings: GatewaySettings, config: ModelConfig, triton: Triton) -> ModelService:
    """The versions that are published, and what is in their folders."""
    files = ModelFiles(
        settings.model_repository, open_objects(settings, settings.repository_buckets)
    )
    return ModelService(config, files, triton)


def open_tracking(
    settings: GatewaySettings,
    config: ModelConfig,
    limits: GateSettings,
    database: Database,
    models: ModelService,
) -> TrackingService:
    """What logs to MLflow, if there is one."""
    return TrackingService(
        runs=None if settings.mlflow_uri is None else MlflowRuns(settings.mlflow_uri),
        interval=settings.tracking_interval,
        config=config,
        limits=limits,
        database=database,
        models=models,
    )


def open_objects(settings: GatewaySettings, buckets: list[str]) -> ObjectStore:
    """The object store, and the buckets of it that may be touched."""
    return ObjectStore(
        buckets,
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        timeout=settings.s3_timeout,
    )
