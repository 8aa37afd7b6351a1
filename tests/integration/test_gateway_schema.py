"""The OpenAPI document against the gateway that serves it: what it says holds, whatever is sent."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from astrotriton.gateway.keys import SCOPES, new_key
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.storage.api_keys import insert_key
from tests.integration.gateway_parts import ROOT, exposure, npy, serve

pytestmark = pytest.mark.hostile

EXAMPLES = 30
# What a document cannot say of a request, a well-formed one is told with 422: that the file is no
# exposure, that a cone has three parameters, that a flag has a name, that a challenger is not the
# champion, that a bucket is not allowed.
CONFIG = """
[[operations]]
include-operation-id = [
    "list_detections", "stream_detections", "list_runs", "put_route", "put_prevalence",
    "validate_model",
]
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 422]

# A caller may also ask for a deadline that nothing can keep.
[[operations]]
include-operation-id = ["infer", "infer_by_reference", "infer_stamps"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 422, 504]
checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 504]
"""


@pytest.fixture
def guarded(settings: GatewaySettings) -> GatewaySettings:
    changes = {"auth": "required", "probe_interval": 60.0, "stream_seconds": 0.05}
    return settings.model_copy(update=changes)


@pytest.fixture
async def client(guarded: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(guarded) as client:
        key = new_key("schema", list(SCOPES), rate_per_minute=1_000_000)
        connection = await asyncpg.connect(guarded.database_url.get_secret_value())
        await insert_key(connection, key)
        await connection.close()
        client.headers["Authorization"] = f"Bearer {key.token}"
        yield client


async def check(client: httpx.AsyncClient, folder: Path, config: str, *options: str) -> str:
    """Every check on every operation, the same requests each time; what was printed."""
    (folder / "schemathesis.toml").write_text(config)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli"),
        *("--config-file", str(folder / "schemathesis.toml"), "run"),
        *(f"{client.base_url}/schema/openapi.json", "--checks", "all", "--continue-on-failure"),
        *("--generation-deterministic", "--max-examples", str(EXAMPLES), "--no-color", *options),
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.integration.schema_hooks"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    # Without most of the files that were sent.
    text = "\n".join(line[:500] for line in printed.decode().splitlines())
    assert process.returncode == 0, text
    return text


def counted(printed: str) -> str:
    found = re.search(r"^Test cases:\n *(.*)$", printed, re.MULTILINE)
    assert found, printed
    return found[1]


async def test_whatever_is_sent_is_answered_as_documented(client, tmp_path, capsys):
    key = ("--header", f"Authorization: {client.headers['Authorization']}")
    printed = await check(client, tmp_path, CONFIG, *key)
    with capsys.disabled():
        print(f"\nwith a key: {counted(printed)}")


async def test_what_is_stored_is_answered_as_documented(client, tmp_path, capsys):
    key = ("--header", f"Authorization: {client.headers['Authorization']}")
    files = {"exposure": npy(exposure())}
    run = (await client.post("/detections/infer", files=files)).json()
    known = {
        "path.detection_id": run["detections"][0]["id"],
        "path.run_id": run["run_id"],
        "path.model_id": f"{run['model']['name']}:{run['model']['version']}",
        "path.name": run["model"]["name"],
    }
    parameters = "".join(f'"{name}" = "{value}"\n' for name, value in known.items())
    printed = await check(client, tmp_path, f"[parameters]\n{parameters}{CONFIG}", *key)
    with capsys.disabled():
        print(f"\nof what is stored: {counted(printed)}")


async def test_without_a_key_nothing_but_health_is_answered(client, tmp_path, capsys):
    printed = await check(client, tmp_path, CONFIG)
    with capsys.disabled():
        print(f"\nwithout a key: {counted(printed)}")
