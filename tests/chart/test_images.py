"""What the images are made of: locks, wheel, commands, users; no container engine is needed.

`tests/integration/test_containers.py` builds the images, and runs them.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.chart.chart_parts import ROOT

PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)==(\S+)", re.MULTILINE)
USER = 10001

# The image as a container sees it: a root of its own that nobody may write to, the environment at
# /srv, a /tmp to write to, and no root user.
CONTAINER = """
set -eu
root=$1 environment=$2 base=$3; shift 3
mount --bind / "$root"
mount -t tmpfs -o mode=755 tmpfs "$root/root"
mkdir -p "$root$base"
mount --bind "$base" "$root$base"
mount --bind "$environment" "$root/srv"
for part in "$root$base" "$root/root" "$root/srv" "$root"; do
  mount -o remount,bind,ro "$part"
done
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
exec chroot --userspec=10001:10001 --groups= "$root" "$@"
"""


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).with_name("hadolint")
    found = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("name", ["gateway", "worker", "export", "triton-cpu", "build"])
def test_an_image_has_what_was_tested(name):
    tested = set(PINNED.findall((ROOT / "requirements.lock").read_text()))
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    pinned = PINNED.findall(text)
    assert set(pinned) <= tested, "run `make lock-images`"
    assert text.count("--hash=sha256:") >= len(pinned)
    assert "://" not in text


def test_the_gateway_has_no_tensorflow():
    packages = dict(PINNED.findall((ROOT / "requirements" / "gateway.lock").read_text()))
    assert not [name for name in packages if name.startswith(("tensorflow", "keras", "torch"))]


def test_the_gateway_has_nothing_that_only_a_report_needs():
    packages, worker, export = (
        dict(PINNED.findall((ROOT / "requirements" / f"{name}.lock").read_text()))
        for name in ("gateway", "worker", "export")
    )
    assert not packages.keys() & {"evidently", "matplotlib", "pandas", "plotly", "pyarrow"}
    # An image is the one before with a layer on it.
    assert packages.items() <= worker.items() <= export.items()


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A command that runs what follows it in the gateway's image, as far as that goes here."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root may make a root of its own")
    folder = tmp_path_factory.mktemp("image")
    source, wheels, environment, root = (
        folder / name for name in ("source", "wheels", "environment", "root")
    )
    root.mkdir()
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        sent = ROOT / line.removeprefix("!")
        if line.startswith("!") and sent.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(sent, source / sent.name, ignore=ignored)
        elif line.startswith("!"):
            source.mkdir(exist_ok=True)
            shutil.copy(sent, source)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    uv = Path(sys.executable).with_name("uv")
    lock = ROOT / "requirements" / "gateway.lock"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, environment], check=True)
    python = environment / "bin" / "python"
    install = [uv, "pip", "install", "-q", "--python", python, "--no-deps", "--require-hashes"]
    subprocess.run([*install, "--only-binary=:all:", "-r", lock], check=True)
    subprocess.run([*install[:-1], "--no-index", wheel], check=True)
    shell = ["unshare", "--mount", "--propagation", "private", "sh", "-c", CONTAINER, "container"]
    yield [*shell, *map(str, (root, environment, sys.base_prefix))]
    # The environment has a gigabyte.
    shutil.rmtree(environment)


def inside(*command: str, **environment: str) -> list[str]:
    settings = {"HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    given = [f"{name}={value}" for name, value in settings.items()]
    return ["env", "-i", "-C", "/tmp", *given, "/srv/bin/python", *command]


@pytest.mark.parametrize(
    "command",
    [
        ("-m", "astrotriton.gateway", "fetch-model", "--help"),
        ("-m", "astrotriton", "score", "--help"),
        ("-m", "astrotriton", "keys", "create", "--help"),
    ],
)
@pytest.mark.chart
def test_the_commands_are_there(image, command):
    ran = subprocess.run([*image, *inside(*command)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "Usage: " in ran.stdout


@pytest.mark.chart
def test_nothing_but_tmp_can_be_written_to(image):
    program = """
import os, pathlib
assert os.getuid() == os.geteuid() == 10001, os.getuid()
for folder in ("/", "/srv", "/root", "/var", "/home"):
    try:
        pathlib.Path(folder, "file").write_text("x")
    except OSError:
        continue
    raise SystemExit(f"{folder} can be written to")
pathlib.Path("/tmp/file").write_text("x")
"""
    ran = subprocess.run([*image, *inside("-c", program)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.chart
def test_the_gateway_serves_in_it(image, tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    # Its dependencies are away, which it says, and waits for them.
    away = {
        "ASTROTRITON_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "ASTROTRITON_TRITON_GRPC": "127.0.0.1:1",
        "ASTROTRITON_NATS_URL": "nats://127.0.0.1:1",
        "ASTROTRITON_MODEL_REPOSITORY": "s3://models/astrotriton",
        "ASTROTRITON_DATABASE_TIMEOUT": "1",
        "ASTROTRITON_PORT": str(port),
    }
    with (tmp_path / "log").open("wb") as log:
        served = subprocess.Popen(
            [*image, *inside("-m", "astrotriton.gateway", "serve", **away)], stdout=log, stderr=log
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            deadline = time.monotonic() + 120
            while True:
                assert served.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                try:
                    assert client.get("/health/live").status_code == 200
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            assert client.get("/health/ready", timeout=60).status_code == 503
        # `unshare` and the shell have become the gateway itself.
        status = Path(f"/proc/{served.pid}/status").read_text()
        assert re.search(rf"^Uid:\t{USER}\t{USER}\t", status, re.MULTILINE)
        assert re.search(r"^CapEff:\t0+$", status, re.MULTILINE)
    finally:
        served.kill()
        served.wait()
