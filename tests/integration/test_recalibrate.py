"""A confidence that was fitted to labels becomes a version in MLflow."""

import json
from collections.abc import Iterator

import mlflow
import msgspec
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from astrotriton.detection.quality.labelled import LabelledField, ValidationSet
from astrotriton.detection.quality.transients import Transients
from astrotriton.export import digests, own_fields, registry
from astrotriton.export.recalibrated import FIGURES_FILE, RECALIBRATED_FROM, register_recalibrated
from tests.integration.monitoring_parts import MlflowServer
from tests.unit.export import samples
from tests.unit.gateway.services.test_prevalence import confidence

pytestmark = pytest.mark.export


@pytest.fixture
def registry_at(mlflow_server: MlflowServer) -> Iterator[str]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_server.url)
    yield mlflow_server.url
    mlflow.set_tracking_uri(before)


def test_it_is_registered_with_where_it_is_from(registry_at: str) -> None:
    network, card = samples.detector(), samples.card("recalibrated_one")
    card = msgspec.structs.replace(card, confidence=confidence(None))
    first = registry.resolve(f"models:/{card.name}/{registry.register(network, card)}")
    image = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    truth = Transients.of(np.array([[30.0, 31.0]]), np.array([9.0]))
    own_fields.keep_fields(first, ValidationSet([LabelledField(image, truth)], "our own"))

    fitted = msgspec.structs.replace(confidence(0.02), fitted_on="fifty labels")
    said: list[str] = []
    figures = {"confidence": {"labels": 50, "changes": "shift"}}
    version = register_recalibrated(first, {"confidence": fitted}, figures, said.append)
    assert version == first.version + 1
    assert said[0].startswith("loading models:/recalibrated_one")
    second = registry.resolve(f"models:/{card.name}/{version}")
    kept = registry.load_card(second)
    assert kept.confidence == fitted
    assert kept.confidence_tta is None
    assert (kept.training_metrics, kept.trained_at) == (card.training_metrics, card.trained_at)
    tiles = samples.tiles()
    answers = [registry.load_keras(one)(tiles.transpose(0, 2, 3, 1)) for one in (first, second)]
    np.testing.assert_array_equal(*answers)
    client = MlflowClient()
    tags = client.get_model_version(card.name, str(version)).tags
    assert tags[RECALIBRATED_FROM] == str(first.version)
    assert digests.of_source(registry.load_keras(second), kept) != first.digest
    told = json.loads(mlflow.artifacts.load_text(f"runs:/{second.run_id}/{FIGURES_FILE}"))
    assert told == {"from": first.uri, **figures}
    brought = own_fields.fields_of(second)
    assert brought is not None
    assert brought.description == "our own"
    # The same again is the version that it already is.
    assert register_recalibrated(first, {"confidence": fitted}, figures, said.append) == version
