"""The images as Podman builds and runs them: what is in them, who runs them, and that they serve.

They are built on a base made from Debian's packages, with what this machine has fetched before; no
registry of images is asked.
"""

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from containers.build import STORAGE, TARGETS, build, build_base, image, size
from containers.engine import Engine, missing
from tests.integration.gateway_parts import NAME, free_port, write_model_repository

# Who asks first for the images has them built.
pytestmark = [pytest.mark.containers, pytest.mark.timeout(7200)]

GATEWAY_MB = 650
# What a pod of the chart may do, and no more.
CONFINED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--memory=2g")
AWAY = {
    "ASTROTRITON_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
    "ASTROTRITON_TRITON_GRPC": "127.0.0.1:1",
    "ASTROTRITON_NATS_URL": "nats://127.0.0.1:1",
    "ASTROTRITON_MODEL_REPOSITORY": "s3://models/astrotriton",
    "ASTROTRITON_DATABASE_TIMEOUT": "1",
}
INSIDE = """
import json, locale, os, pathlib, shutil, zoneinfo
denied = []
for folder in ("/", "/venv", "/opt", "/etc", "/var", "/home", "/root", "/usr/local/bin"):
    try:
        pathlib.Path(folder, "file").write_text("x")
    except OSError:
        denied.append(folder)
pathlib.Path("/tmp/file").write_text("x")
def has_content(path):
    return any(one.is_file() and one.stat().st_size for one in (path, *path.rglob("*")))
tools = ("gcc", "cc", "ld", "make", "strip", "uv", "git")
left = map(pathlib.Path, ("/var/lib/apt/lists", "/etc/pip.conf", "/etc/uv", "/build"))
status = pathlib.Path("/proc/self/status").read_text().splitlines()
print(json.dumps({
    "user": [os.getuid(), os.geteuid(), os.getgid()],
    "denied": denied,
    "tools": [name for name in tools if shutil.which(name)],
    "encoding": locale.getpreferredencoding(False),
    "night": str(zoneinfo.ZoneInfo("America/Santiago")),
    "certificates": os.path.getsize("/etc/ssl/certs/ca-certificates.crt"),
    "capabilities": [line.split()[1] for line in status if line.startswith("CapEff")],
    "left": [str(path) for path in left if has_content(path)],
}))
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    if reason := missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with Engine(STORAGE) as engine:
        build_base(engine)
        for target in TARGETS:
            took = build(engine, target)
            print(f"{target}: {size(engine, target) / 1e6:.0f} MB, built in {took:.0f} s")
        yield engine
        assert engine.podman("ps", "--all", "--quiet") == ""
    # Its mounts were in a namespace of their own, and its containers had no network of theirs.
    assert str(STORAGE) not in Path("/proc/self/mountinfo").read_text()


def python(engine: Engine, target: str, *arguments: str) -> str:
    run = ("run", "--rm", "--network=none", "--tmpfs=/tmp", *CONFINED, "--entrypoint=python")
    return engine.podman(*run, image(target), *arguments)


@contextmanager
def running(engine: Engine, target: str, *options: str, args: tuple[str, ...]) -> Iterator[str]:
    """A container that is removed in the end; its name."""
    name = f"astrotriton-{target}-{free_port()}"
    engine.podman("run", "--detach", f"--name={name}", *options, *CONFINED, image(target), *args)
    try:
        yield name
    except BaseException:
        print(engine.logs(name))
        raise
    finally:
        engine.podman("rm", "--force", "--time=0", name)


def until(name: str, engine: Engine, ask: Callable[[], bool], patience: float = 120.0) -> float:
    """Seconds until it is so."""
    started = time.monotonic()
    while time.monotonic() - started < patience:
        try:
            if ask():
                return time.monotonic() - started
        except (httpx.TransportError, OSError):
            pass
        if engine.podman("inspect", "--format={{.State.Running}}", name) != "true":
            break
        time.sleep(0.1)
    raise AssertionError(f"{name}: {engine.logs(name)}")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_nobody_and_has_no_tools(engine, target):
    found = json.loads(python(engine, target, "-c", INSIDE))
    assert found["user"] == [10001, 10001, 10001]
    assert len(found["denied"]) == 8
    assert found["tools"] == []
    assert found["encoding"] == "UTF-8"
    assert found["night"] == "America/Santiago"
    assert found["certificates"] > 100_000
    assert found["capabilities"] == ["0" * 16]
    # Nothing of the machine that built it, and nothing that it fetched.
    assert found["left"] == []


def test_the_gateway_is_thin(engine):
    assert size(engine, "gateway") <= GATEWAY_MB * 1_000_000
    heavy = ("evidently", "pandas", "plotly", "pyarrow", "sklearn", "matplotlib", "tensorflow")
    there = python(
        engine,
        "gateway",
        "-c",
        f"import importlib.util as u; print([n for n in {heavy} if u.find_spec(n)])",
    )
    assert there == "[]"


def test_who_pulls_all_three_pulls_each_layer_once(engine):
    ask = ("image", "inspect", "--format={{json .RootFS.Layers}}")
    gateway, worker, export = (
        json.loads(engine.podman(*ask, image(one))) for one in ("gateway", "worker", "export")
    )
    assert worker[: len(gateway)] == gateway
    assert export[: len(worker)] == worker


@pytest.mark.parametrize(
    ("target", "arguments", "answer"),
    [
        ("gateway", ("--version",), "astrotriton gateway, version"),
        ("gateway", ("fetch-model", "--help"), "Usage: "),
        ("worker", ("--version",), "astrotriton gateway, version"),
        ("export", ("--version",), "version"),
        ("export", ("promote", "--help"), "Usage: "),
        ("triton-cpu", ("tritonserver", "--help"), "--model-repository"),
    ],
)
def test_its_command_answers(engine, target, arguments, answer):
    run = ("run", "--rm", "--network=none", "--tmpfs=/tmp", *CONFINED)
    command = [*engine.command(*run, image(target), *arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert answer in ran.stdout + ran.stderr


def test_the_gateway_answers_for_its_health_and_writes_to_tmp_alone(engine):
    port = free_port()
    given = [f"--env={name}={value}" for name, value in AWAY.items()]
    options = ("--network=host", "--tmpfs=/tmp", *given, f"--env=ASTROTRITON_PORT={port}")
    with running(engine, "gateway", *options, args=("serve",)) as name:
        url = f"http://127.0.0.1:{port}"
        took = until(
            name, engine, lambda: httpx.get(f"{url}/health/live", trust_env=False).is_success
        )
        ready = httpx.get(f"{url}/health/ready", trust_env=False, timeout=60)
        assert ready.status_code == 503
        schema = httpx.get(f"{url}/schema/openapi.json", trust_env=False, timeout=60)
        assert "/detections/infer" in schema.json()["paths"]
        memory = engine.podman("stats", "--no-stream", "--format={{.MemUsage}}", name)
        print(f"gateway: live after {took:.1f} s, memory {memory}")
        # Compiled functions came with the image: nothing was compiled at the start.
        same = "diff -r /opt/astrotriton/compiled /tmp/compiled.*"
        assert engine.podman("exec", name, "sh", "-c", same) == ""
        changed = engine.podman("diff", name).splitlines()
        assert [line for line in changed if not line.endswith(("/tmp", "/run", "/etc"))] == []
        engine.podman("stop", "--time=30", name)
        assert engine.podman("inspect", "--format={{.State.ExitCode}}", name) in ("0", "143")


def test_triton_for_cpus_serves_what_export_wrote(engine, tmp_path):
    repository = write_model_repository(tmp_path / "models")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    port = free_port()
    arguments = (
        *("tritonserver", "--model-repository=/models", "--model-control-mode=explicit"),
        *(f"--load-model={NAME}", "--grpc-address=127.0.0.1", f"--grpc-port={port}"),
        *("--allow-http=false", "--allow-metrics=false"),
    )
    options = (
        *("--network=host", "--tmpfs=/tmp", "--shm-size=256m"),
        f"--volume={repository}:/models:ro",
    )
    with running(engine, "triton-cpu", *options, args=arguments) as name:

        def listening() -> bool:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return True

        took = until(name, engine, listening)
        memory = engine.podman("stats", "--no-stream", "--format={{.MemUsage}}", name)
        print(f"triton-cpu: serves after {took:.1f} s, memory {memory}")
        golden = np.load(repository / NAME / "3" / "golden.npz")
        tile = InferInput("image", list(golden["image"].shape), "FP32")
        tile.set_data_from_numpy(golden["image"])
        with InferenceServerClient(f"127.0.0.1:{port}") as client:
            answer = client.infer(NAME, [tile]).as_numpy("probability")
        np.testing.assert_allclose(answer, golden["probability"], atol=1e-5)


def test_a_worker_makes_a_report(engine, tmp_path):
    rng = np.random.default_rng(1)
    names = ["noise", "background"]
    task = {
        "names": names,
        "baseline": rng.normal(size=(60, 2)).tolist(),
        "live": rng.normal(size=(30, 2)).tolist(),
        "limit": 0.001,
    }
    module = "astrotriton.gateway.services.drift.report"
    program = f"python -m {module} /tmp/report && wc -c < /tmp/report"
    run = ("run", "--rm", "--interactive", "--network=none", "--tmpfs=/tmp", *CONFINED)
    printed = engine.podman(
        *run, "--entrypoint=sh", image("worker"), "-c", program, content=json.dumps(task)
    )
    assert int(printed) > 1_000_000


def test_a_worker_with_nothing_to_do_says_so(engine):
    given = [f"--env={name}={value}" for name, value in AWAY.items()]
    run = ("run", "--rm", "--network=none", "--tmpfs=/tmp", *CONFINED, *given)
    command = engine.command(*run, image("worker"))
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 1
    assert "ASTROTRITON_REPORT_URL" in ran.stderr
