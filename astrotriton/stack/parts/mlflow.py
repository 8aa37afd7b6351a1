"""MLflow's tracking server and model registry."""

import sys

import httpx

from astrotriton.stack.process import Part
from astrotriton.stack.site import Site


def mlflow(site: Site) -> Part:
    """The server, with its records in PostgreSQL and its artefacts in S3.

    Artefacts pass through it, so its clients need no keys to either.
    """
    addresses, port = site.addresses, site.ports["mlflow"]

    async def check() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.get(f"{addresses.mlflow_url}/health")).raise_for_status()

    return Part(
        name="mlflow",
        command=[
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
        ],
        # Secrets go by the environment: anyone may read a command line.
        environment=site.environment(
            MLFLOW_BACKEND_STORE_URI=addresses.mlflow_database_url,
            MLFLOW_ARTIFACTS_DESTINATION=f"s3://{addresses.s3_bucket}/mlflow",
            MLFLOW_S3_ENDPOINT_URL=addresses.s3_url,
            AWS_ACCESS_KEY_ID=addresses.s3_access_key,
            AWS_SECRET_ACCESS_KEY=addresses.s3_secret_key,
            AWS_DEFAULT_REGION="us-east-1",
            MLFLOW_DISABLE_TELEMETRY="true",
            MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
        ),
        ports=frozenset({port}),
        check=check,
        patience=180.0,  # Its first start makes some 60 tables by as many migrations.
    )
