"""What the gateway logs, on the pages of the versions that it is about."""

from collections.abc import Iterator
from datetime import UTC, datetime

import mlflow
import pytest
from mlflow import MlflowClient

from astrotriton.export import registry
from astrotriton.gateway.backends.mlflow import MlflowRuns
from tests.unit.export import samples

NAME = "served here v1.2"

pytestmark = pytest.mark.monitoring


@pytest.fixture(autouse=True)
def tracking(mlflow_server) -> Iterator[None]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_server.url)
    yield
    mlflow.set_tracking_uri(before)


def test_metrics_of_serving_are_on_the_versions_page(mlflow_server):
    registry.register(samples.detector(), samples.card(NAME))
    runs = MlflowRuns(mlflow_server.url)
    run_id = runs.served_run("served_here_v1.2", 1, {"batch_size": 8})
    runs.log_metrics(run_id, [("request_seconds_p50", 0.25, datetime.now(UTC), 1)])

    client = MlflowClient()
    assert client.get_run(run_id).data.metrics == {"request_seconds_p50": 0.25}
    version = client.get_model_version(NAME, "1")
    assert version.tags["astrotriton.serving_run"] == run_id
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    assert {one.key: one.value for one in logged.metrics}["request_seconds_p50"] == 0.25


def test_a_version_that_is_not_registered_is_logged_all_the_same(mlflow_server):
    runs = MlflowRuns(mlflow_server.url)
    run_id = runs.served_run("nobody", 3, {})
    runs.log_metrics(run_id, [("runs", 2.0, datetime.now(UTC), 1)])
    assert MlflowClient().get_run(run_id).data.metrics == {"runs": 2.0}
