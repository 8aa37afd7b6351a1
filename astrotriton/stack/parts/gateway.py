"""The gateway, run from the same environment by its own command line."""

import os
import sys
from pathlib import Path

import httpx

from astrotriton.folders import IMPORTS
from astrotriton.stack.process import Part
from astrotriton.stack.site import Site


def gateway(site: Site, repository: Path) -> Part:
    """The HTTP service, its database migrated first.

    Parameters
    ----------
    repository
        The model repository, whose cards the gateway reads.
    """
    port, addresses = site.ports["gateway"], site.addresses
    defaults = {
        # Most of what the stack's NATS has room for.
        "ASTROTRITON_NATS_MAX_BYTES": str(768 * 1024 * 1024),
        "ASTROTRITON_TRITON_SHARED_MEMORY": "true",
        "ASTROTRITON_MLFLOW_URI": addresses.mlflow_url,
        "ASTROTRITON_TRITON_METRICS_PORT": str(site.ports["triton_metrics"]),
        "ASTROTRITON_S3_ENDPOINT": addresses.s3_url,
        "ASTROTRITON_S3_REGION": "us-east-1",
        "ASTROTRITON_REPORT_URL": f"s3://{addresses.s3_bucket}/drift",
        "AWS_ACCESS_KEY_ID": addresses.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": addresses.s3_secret_key,
    }
    settings = {name: text for name, text in os.environ.items() if name.startswith("ASTROTRITON_")}
    python = [sys.executable, "-m", "astrotriton.gateway"]

    async def check() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{addresses.gateway_url}/health/ready")
            if answer.is_error:
                raise ConnectionError(f"{answer.status_code} {answer.text}")

    return Part(
        name="gateway",
        command=[*python, "serve"],
        steps=[[*python, "migrate"]],
        environment=site.environment(
            **defaults
            | settings
            | addresses.environment()
            | {
                "ASTROTRITON_MODEL_REPOSITORY": str(repository.resolve()),
                "ASTROTRITON_HOST": "127.0.0.1",
                "ASTROTRITON_AUTH": "off",
                "ASTROTRITON_PORT": str(port),
                "PYTHONPATH": str(IMPORTS),
            }
        ),
        ports=frozenset({port}),
        check=check,
    )
