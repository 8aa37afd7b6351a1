"""Versions 3 and 4 in a folder, a Triton that serves them, and storage in memory."""

from pathlib import Path

import pytest

from astrotriton.gateway.services.models import ModelService
from tests.unit.gateway.services.memory import Memory, keep_in_memory
from tests.unit.gateway.services.stand_ins import Outbox, Tritons, model_service, network, publish


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
