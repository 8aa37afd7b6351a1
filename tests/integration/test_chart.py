"""What the chart renders starts the real Triton and the real gateway.

Arguments, environment and probes are taken out of the manifests as they are. Other are only the
addresses that a cluster would give: ports, names of services, and where a volume is mounted.
"""

import base64
import hashlib
import json
import signal
import tempfile
from collections.abc import Iterator

import httpx
import obstore
import pytest

from astrotriton.detection.card import UNetModel
from astrotriton.detection.quality.golden import TOLERANCE
from astrotriton.export.sandbox import Version, try_out
from astrotriton.export.serving import Replica
from astrotriton.one_machine.trial_triton import lent_sandbox
from astrotriton.settings import ModelConfig
from tests.chart.chart_parts import find, objects, pod_of
from tests.integration.chart_servers import (
    BUCKET,
    ChartGateway,
    ChartTriton,
    container_of,
    environment_of,
    put_repository,
    replaced,
    run,
    values_of,
)
from tests.integration.gateway_parts import (
    NAME,
    NatsServer,
    ObjectStoreServer,
    write_model_repository,
)

pytestmark = pytest.mark.chart

_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    """An S3 store that a model repository was published to."""
    repository = write_model_repository(tmp_path_factory.mktemp("published"))
    with ObjectStoreServer(tmp_path_factory.mktemp("store")) as server:
        put_repository(server, repository)
        yield server


@pytest.fixture
def secrets(empty_database: str, store: ObjectStoreServer) -> dict[str, str]:
    return {
        "url": empty_database,
        "AWS_ACCESS_KEY_ID": store.access_key,
        "AWS_SECRET_ACCESS_KEY": store.secret_key,
    }


def test_the_release_serves_an_exposure(store, secrets, nats_server: NatsServer, tmp_path):
    values = values_of(store, nats={"url": nats_server.url})
    values["gateway"]["drainSeconds"] = 5
    made = objects(values)
    server = container_of(find(made, "Deployment", "-triton"))
    with ChartTriton(server, environment_of(server, made, secrets), tmp_path) as triton:
        assert triton.probe("readinessProbe")
        assert triton.probe("livenessProbe")
        metrics = httpx.get(f"http://127.0.0.1:{triton.ports['metrics']}/metrics", trust_env=False)
        # What the ScaledObject of another scenario asks for.
        for name in ("nv_inference_queue_duration_us", "nv_inference_request_success"):
            assert name in metrics.text

        migrate = container_of(find(made, "Job", "-migrate"))
        migrated = run(migrate, environment_of(migrate, made, secrets))
        assert migrated.returncode == 0, migrated.stderr

        addresses = {"demo-astrotriton-triton:8001": triton.address}
        with ChartGateway(made, secrets, addresses, tmp_path / "gateway.log") as gateway:
            assert gateway.probe("livenessProbe")
            assert httpx.get(f"{gateway.url}/detections/", trust_env=False).status_code == 401
            scopes = [f"--scope={one}" for one in ("infer", "read", "admin")]
            key = run(
                {
                    "command": ["python", "-m", "astrotriton"],
                    "args": ["keys", "create", "test", *scopes],
                },
                gateway.environment,
            )
            secrets["token"] = key.stdout.strip()

            golden = find(made, "ConfigMap", "-test")["binaryData"]["golden.fits.gz"]
            (tmp_path / "golden.fits.gz").write_bytes(base64.b64decode(golden))
            inside = {
                "http://demo-astrotriton-gateway:8000": gateway.url,
                "/golden/": f"{tmp_path}/",
            }
            test = container_of(find(made, "Pod", "-test"))
            sent = run(
                test, environment_of(test, made, secrets), lambda text: replaced(text, inside)
            )
            assert sent.returncode == 0, sent.stderr
            answer = json.loads(sent.stdout)
            assert answer["model"] | {"digest": None} == {
                "name": NAME,
                "version": 3,
                "digest": None,
            }
            assert any(one["outcome"] == "kept" for one in answer["detections"])

            routed = httpx.put(
                f"{gateway.url}/models/{NAME}/route",
                json={"champion": 3},
                headers={"Authorization": f"Bearer {secrets['token']}"},
                trust_env=False,
                timeout=60,
            )
            assert routed.status_code == 200, routed.text
            drift = container_of(find(made, "CronJob", "-drift"))
            looked = run(
                drift, environment_of(drift, made, secrets), lambda text: replaced(text, inside)
            )
            assert looked.returncode == 0, looked.stderr
            assert json.loads(looked.stdout)["status"] in ("no-baseline", "too-little-data")

            assert gateway.leave() in (0, -signal.SIGTERM)


def test_a_triton_waits_for_the_first_version(tmp_path):
    with ObjectStoreServer(tmp_path) as store:
        store.bucket(BUCKET)
        made = objects(values_of(store))
        server = container_of(find(made, "Deployment", "-triton"))
        keys = {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
        # Triton takes no repository that is not there.
        (prepare,) = pod_of(find(made, "Deployment", "-triton"))["initContainers"]
        environment = environment_of(prepare, made, keys)
        for said in ("was empty", "has objects already"):
            prepared = run(prepare, environment)
            assert prepared.returncode == 0, prepared.stderr
            assert said in prepared.stdout
        refused = run(prepare, environment | {"AWS_SECRET_ACCESS_KEY": "wrong"})
        assert refused.returncode == 1
        assert "put an object under s3://" in refused.stderr

        folder = tmp_path / "triton"
        folder.mkdir()
        with ChartTriton(server, environment_of(server, made, keys), folder) as triton:
            assert triton.probe("livenessProbe")
            assert not triton.probe("readinessProbe")
            put_repository(store, write_model_repository(tmp_path / "published"))
            with Replica(triton.address) as replica:
                replica.load(NAME)
            assert triton.probe("readinessProbe")


def test_pinned_versions_are_fetched_checked_and_served(store, secrets, tmp_path):
    card = obstore.get(store.bucket(BUCKET), f"astrotriton/{NAME}/3/card.json").bytes()
    digest = hashlib.sha256(bytes(card)).hexdigest()
    versions = [{"version": 3, "digest": f"sha256:{digest}"}]
    repository = {"mode": "pinned", "location": f"s3://{BUCKET}/astrotriton", "versions": versions}
    made = objects(values_of(store, repository=repository))
    pod = pod_of(find(made, "Deployment", "-triton"))
    (fetch,) = pod["initContainers"]
    environment = environment_of(fetch, made, secrets)
    folder = tmp_path / "models"
    folder.mkdir()

    def here(text: str) -> str:
        return text.replace("/models", str(folder)) if "=/models" in text else text

    fetched = run(fetch, environment, here)
    assert fetched.returncode == 0, fetched.stderr
    assert sorted(path.name for path in (folder / NAME / "3").iterdir()) == [
        *("card.json", "golden.npz", "model.onnx"),
    ]
    # The restart of a pod finds what the one before has left.
    assert run(fetch, environment, here).returncode == 0

    server = container_of(find(made, "Deployment", "-triton"))
    with ChartTriton(server, {}, tmp_path, models=folder) as triton:
        assert triton.probe("readinessProbe")

    wrong = {"args": [here(arg.replace(digest, "0" * 64)) for arg in fetch["args"]]}
    empty = tmp_path / "empty"
    empty.mkdir()
    refused = run(wrong, environment, lambda text: text.replace(f"--to={folder}", f"--to={empty}"))
    assert refused.returncode == 1
    assert "card.json is not the pinned one" in refused.stderr
    assert not (empty / NAME).exists()


def test_a_promotion_tries_versions_in_the_server_beside_it(store, tmp_path, monkeypatch):
    promote = {
        "model": f"models:/{NAME}/3",
        "bootstrap": True,
        "image": {"repository": "registry.example.org/astrotriton-export"},
    }
    mlflow = {"trackingUri": "http://127.0.0.1:1"}
    made = objects(values_of(store, promote=promote, mlflow=mlflow))
    (job,) = (one for one in made if "-promote-" in one["metadata"]["name"])
    (sandbox,) = pod_of(job)["initContainers"]
    settings = environment_of(container_of(job), made, dict.fromkeys(_KEYS, ""))
    assert settings["TMPDIR"] == settings["ASTROTRITON_SANDBOX_FOLDER"] == "/sandbox"
    assert "ASTROTRITON_GATEWAY_URL" not in settings

    folder = tmp_path / "sandbox"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    published = write_model_repository(tmp_path / "published") / NAME / "3"
    card = UNetModel.from_json((published / "card.json").read_bytes())
    files = {name: (published / name).read_bytes() for name in card.digests}
    environment = environment_of(sandbox, made, {})
    marked = {name: replaced(text, {"/sandbox": str(folder)}) for name, text in environment.items()}
    with ChartTriton(sandbox, marked, tmp_path, sandbox=folder) as triton:
        for _ in range(2):
            found = try_out(
                Version(card, files),
                None,
                lent_sandbox(triton.address, folder),
                ModelConfig(batch_size=4, enable_gpu=False),
                settings["ASTROTRITON_PROFILE"],
            )
            assert found.difference <= TOLERANCE
            assert found.own.memory > 0
            assert found.own.latency > 0
            # It is left as it was found.
            assert list(folder.iterdir()) == []
