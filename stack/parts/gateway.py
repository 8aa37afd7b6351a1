"""The gateway, run from the same environment by its own command line."""

import os
import sys
from pathlib import Path

import httpx

from stack.process import Part
from stack.site import Site

_ROOT = Path(__file__).parents[2]


def gateway(site: Site, repository: Path) -> Part:
    """The HTTP service, its database migrated first.

    Parameters
    ----------
    repository
        The model repository, whose cards the gateway reads.
    """
    port = site.ports["gateway"]
    settings = {name: text for name, text in os.environ.items() if name.startswith("ASTROTRITON_")}
    python = [sys.executable, "-m", "gateway"]

    async def check() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{site.addresses.gateway_url}/health/ready")
            if answer.is_error:
                raise ConnectionError(f"{answer.status_code} {answer.text}")

    return Part(
        name="gateway",
        command=[*python, "serve"],
        steps=[[*python, "migrate"]],
        environment=site.environment(
            **settings
            | site.addresses.environment()
            | {
                "ASTROTRITON_MODEL_REPOSITORY": str(repository.resolve()),
                "ASTROTRITON_HOST": "127.0.0.1",
                "ASTROTRITON_AUTH": "off",
                "ASTROTRITON_PORT": str(port),
                "PYTHONPATH": str(_ROOT),
            }
        ),
        ports=frozenset({port}),
        check=check,
    )
