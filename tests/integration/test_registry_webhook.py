"""A version that gets an alias in MLflow is promoted by whoever listens."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from astrotriton.export import registry
from tests.integration.gateway_parts import free_port
from tests.unit.export import samples

NAME, SECRET = "told of v1.2", "a secret of the tests"


@pytest.fixture(autouse=True)
def tracking(mlflow_server):
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(mlflow_server.url)
    yield
    mlflow.set_tracking_uri(before)


@pytest.fixture
def listener(mlflow_server, tmp_path):
    """The address of a listener that only plans promotions."""
    address = f"127.0.0.1:{free_port()}"
    environment = {
        "ASTROTRITON_DATA": str(tmp_path / "no_stack_here"),
        "ASTROTRITON_MODEL_NAME": NAME,
        "ASTROTRITON_MODEL_REPOSITORY": str(tmp_path / "model_repository"),
        "ASTROTRITON_TRITON_GRPC": f"127.0.0.1:{free_port()}",
        "ASTROTRITON_INPUT_SIZE": "[64, 64]",
        "ASTROTRITON_WEBHOOK_SECRET": SECRET,
        "MLFLOW_TRACKING_URI": mlflow_server.url,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "astrotriton", "listen", address, "--alias", "candidate", "--plan"],
        env=os.environ | environment,
    )
    host, _, port = address.partition(":")
    try:
        while True:
            assert process.poll() is None, "the listener has ended"
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def test_an_alias_starts_a_promotion(listener):
    registry.register(samples.detector(), samples.card(NAME))
    client = MlflowClient()
    hook = client.create_webhook(
        name="promote",
        url=f"http://{listener}/",
        events=["model_version_alias.created"],
        secret=SECRET,
    )
    try:
        client.set_registered_model_alias(NAME, "other", "1")
        client.set_registered_model_alias(NAME, "candidate", "1")
        deadline = time.monotonic() + 180
        while "astrotriton.promotion" not in (tags := client.get_model_version(NAME, "1").tags):
            assert time.monotonic() < deadline, tags
            time.sleep(0.5)
        assert tags["astrotriton.promotion"] == "done"
    finally:
        client.delete_webhook(hook.webhook_id)
