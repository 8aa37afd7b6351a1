"""What the chart renders starts the real Triton and the real gateway.

Arguments, environment and probes are taken out of the manifests as they are. Other are only the
addresses that a cluster would give: ports, names of services, and where a volume is mounted.
"""

import base64
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import obstore
import pytest
from obstore.store import S3Store

from astrotriton.sandbox import lent_sandbox
from detection.config import ModelConfig
from detection.gates import GateLimits
from detection.model import UNetModel
from export.sandbox import Version, try_out
from tests.chart.chart_parts import find, objects, pod_of, scenario
from tests.integration.gateway_parts import (
    NAME,
    ROOT,
    NatsServer,
    ObjectStoreServer,
    Process,
    TritonServer,
    free_port,
    triton_home,
    write_model_repository,
)
from tests.integration.stack_parts import wait_for

BUCKET = "models"
_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


def bucket_of(store: ObjectStoreServer) -> S3Store:
    return S3Store(
        BUCKET,
        region="auto",
        config={
            "endpoint": store.url,
            "access_key_id": store.access_key,
            "secret_access_key": store.secret_key,
        },
        client_options={"allow_http": True},
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStoreServer]:
    """An S3 store that a model repository was published to."""
    repository = write_model_repository(tmp_path_factory.mktemp("published"))
    with ObjectStoreServer(tmp_path_factory.mktemp("store")) as server:
        bucket = bucket_of(server)
        for path in repository.rglob("*"):
            if path.is_file():
                key = f"astrotriton/{path.relative_to(repository)}"
                obstore.put(bucket, key, path.read_bytes())
        yield server


def values_of(store: ObjectStoreServer, **more: Any) -> dict[str, Any]:
    s3 = {"endpoint": store.url, "existingSecret": "s3", "region": "us-east-1"}
    return scenario("minimal") | {
        "enable_gpu": False,
        "repository": {"location": f"s3://{BUCKET}/astrotriton"},
        "s3": s3,
        "checkSecret": "check",
        "checks": {"drift": {"schedule": "0 6 * * *"}},
        **more,
    }


def container_of(one: dict[str, Any]) -> dict[str, Any]:
    pod = pod_of(one)
    assert pod is not None
    (container,) = pod["containers"]
    return container


def environment_of(
    container: dict[str, Any], made: list[dict[str, Any]], secrets: dict[str, str]
) -> dict[str, str]:
    """What a container sees, with the secrets by their key."""
    environment: dict[str, str] = {}
    for source in container.get("envFrom", []):
        environment |= find(made, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", []):
        environment[variable["name"]] = (
            variable["value"]
            if "value" in variable
            else secrets[variable["valueFrom"]["secretKeyRef"]["key"]]
        )
    return environment


def replaced(text: str, addresses: dict[str, str]) -> str:
    for old, new in addresses.items():
        text = text.replace(old, new)
    return text


def quiet(environment: dict[str, str]) -> dict[str, str]:
    """Nothing of this machine's own settings but the path."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environment


class ChartTriton(TritonServer):
    """Triton as a container of the chart has it, but for the backends, which its image brings."""

    def __init__(
        self,
        container: dict[str, Any],
        environment: dict[str, str],
        folder: Path,
        **mounted: Path,
    ) -> None:
        super().__init__(folder, folder)
        self.container = container
        self._environment = environment
        self.ports = {name: free_port() for name in ("http", "grpc", "metrics")}
        self._elsewhere = {
            f"-port={8000 + i}": f"-port={port}" for i, port in enumerate(self.ports.values())
        } | {f"=/{place}": f"={path}" for place, path in mounted.items()}
        self.address = f"127.0.0.1:{self.ports['grpc']}"

    def start(self) -> None:
        program, *arguments = self.container["args"]
        assert program == "tritonserver"
        arguments = [replaced(arg, self._elsewhere) for arg in arguments]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.launch(
            [
                str(triton_home() / "bin" / program),
                *arguments,
                f"--backend-directory={self._backends}",
                *("--http-address=127.0.0.1", "--grpc-address=127.0.0.1"),
            ],
            **self._environment,
            PATH=path,
            LD_LIBRARY_PATH=str(sysconfig.get_config_var("LIBDIR")),
        )
        probe = self.container["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] > 120
        wait_for(lambda: self.probe("startupProbe"), "Triton", 120)

    def probe(self, name: str) -> bool:
        self.check()
        return answers(self.container, name, self.ports)


def answers(container: dict[str, Any], probe: str, ports: dict[str, int]) -> bool:
    """Whether a probe of the manifest succeeds."""
    get = container[probe]["httpGet"]
    with contextlib.suppress(httpx.TransportError):
        url = f"http://127.0.0.1:{ports[get['port']]}{get['path']}"
        return httpx.get(url, trust_env=False, timeout=30).is_success
    return False


class ChartGateway(Process):
    """The gateway as the chart has it."""

    def __init__(
        self,
        made: list[dict[str, Any]],
        secrets: dict[str, str],
        addresses: dict[str, str],
        log: Path,
    ) -> None:
        super().__init__(log)
        self.deployment = find(made, "Deployment", "-gateway")
        self.container = container_of(self.deployment)
        self.ports = {port["name"]: free_port() for port in self.container["ports"]}
        environment = environment_of(self.container, made, secrets) | {
            "ASTROTRITON_PORT": str(self.ports["http"]),
            "ASTROTRITON_GRPC_PORT": str(self.ports["grpc"]),
        }
        self.environment = {name: replaced(text, addresses) for name, text in environment.items()}
        self.url = f"http://127.0.0.1:{self.ports['http']}"

    def __enter__(self) -> "ChartGateway":
        command = [sys.executable, "-m", "gateway", *self.container["args"]]
        self._process = subprocess.Popen(
            command, env=quiet(self.environment), stderr=self.log.open("ab"), cwd="/"
        )
        wait_for(lambda: self.probe("readinessProbe"), "the gateway", 120)
        return self

    def probe(self, name: str) -> bool:
        self.check()
        return answers(self.container, name, self.ports)

    def leave(self) -> int:
        """Ask it to end, as the kubelet does."""
        assert self._process is not None
        pod = pod_of(self.deployment)
        assert pod is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(pod["terminationGracePeriodSeconds"])


def run(
    container: dict[str, Any],
    environment: dict[str, str],
    change: Callable[[str], str] = lambda text: text,
) -> subprocess.CompletedProcess[str]:
    """Run a container of a Job or a test to its end."""
    program, *first = container.get("command", ["python", "-m", "gateway"])
    assert program == "python"
    arguments = [change(arg) for arg in container["args"]]
    return subprocess.run(
        [sys.executable, *first, *arguments],
        env=quiet({name: change(text) for name, text in environment.items()}),
        capture_output=True,
        text=True,
        timeout=300,
        cwd="/",
    )


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
            assert json.loads(looked.stdout)["status"] in ("no-reference", "too-little-data")

            assert gateway.leave() in (0, -signal.SIGTERM)


def test_pinned_versions_are_fetched_checked_and_served(store, secrets, tmp_path):
    card = obstore.get(bucket_of(store), f"astrotriton/{NAME}/3/card.json").bytes()
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
            gates = try_out(
                Version(card, files),
                None,
                lent_sandbox(triton.address, folder),
                ModelConfig(batch_size=4, enable_gpu=False),
                settings["ASTROTRITON_PROFILE"],
                GateLimits(max_latency_ratio=100.0),
            )
            assert next(gate.name for gate in gates if gate.passed) == "sandbox", gates
            memory = gates[-1].figures
            assert any(value and value > 0 for value in memory.values()), gates
            # It is left as it was found.
            assert list(folder.iterdir()) == []
