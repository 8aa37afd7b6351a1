"""Versions 3 and 4 in a folder, a Triton that serves them, and storage in memory."""

from pathlib import Path

import pytest

from astrotriton.detection.image.exposure import Limits
from astrotriton.gateway.services.canary.journal import CanaryJournal
from astrotriton.gateway.services.inference import InferenceService
from astrotriton.gateway.services.models import ModelService
from astrotriton.gateway.services.prevalence import PrevalenceService
from astrotriton.gateway.services.scoring import ScoringService
from astrotriton.settings import ModelConfig
from tests.unit.gateway.services.memory import Memory, keep_in_memory
from tests.unit.gateway.services.stand_ins import (
    SOURCE,
    Outbox,
    ReadHere,
    Told,
    Tritons,
    model_service,
    network,
    publish,
    routing_service,
)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Memory:
    return keep_in_memory(monkeypatch)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do not write to it."""
    folder = tmp_path_factory.mktemp("published")
    for version, sigma in ((3, 6.0), (4, 5.0)):
        publish(folder, version, network(sigma))
    return folder


@pytest.fixture
def triton() -> Tritons:
    return Tritons({3: network(6.0), 4: network(5.0)})


@pytest.fixture
def models(folder: Path, triton: Tritons) -> ModelService:
    return model_service(folder, triton)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def inference(triton: Tritons) -> InferenceService:
    return InferenceService(
        config=ModelConfig(), limits=Limits(), in_flight=2, triton=triton, readers=ReadHere()
    )


@pytest.fixture
def told() -> Told:
    """What recorder and sampler were told."""
    return Told()


@pytest.fixture
def shadow() -> Told:
    """What was offered to the shadow."""
    return Told()


@pytest.fixture
def journal(memory) -> CanaryJournal:
    return CanaryJournal(memory)


@pytest.fixture
def disputes() -> Told:
    """Which runs were offered to be compared with those of other versions."""
    return Told()


@pytest.fixture
def prevalence(memory, models, outbox) -> PrevalenceService:
    return PrevalenceService(
        database=memory,
        models=models,
        routing=routing_service(memory, models, outbox),
        exposures=200,
        refresh=600.0,
    )


@pytest.fixture
def scoring(
    memory, models, inference, outbox, told, shadow, journal, disputes, prevalence
) -> ScoringService:
    return ScoringService(
        event_source=SOURCE,
        event_detections=2,
        cutouts=1,
        picture_side=64,
        inference=inference,
        models=models,
        routing=routing_service(memory, models, outbox),
        prevalence=prevalence,
        shadow=shadow,
        database=memory,
        outbox=outbox,
        recorder=told,
        sampler=told,
        canary=journal,
        disputes=disputes,
    )
