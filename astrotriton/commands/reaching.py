"""How a command finds the gateway that it asks."""

from collections.abc import Callable

import click
import httpx

from astrotriton.cli import fail


def gateway_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options of every command that asks a gateway: `--url` and `--token`."""
    for option in (
        click.option(
            "--token", envvar="ASTROTRITON_TOKEN", help="API key or OIDC token; best by $NAME."
        ),
        click.option(
            "--url",
            envvar="ASTROTRITON_GATEWAY_URL",
            help="The gateway; without it, the one that `astrotriton up` started.",
        ),
    ):
        command = option(command)
    return command


def gateway_at(url: str | None, command: str) -> str:
    """The URL of a gateway that answers; without one, of the stack that runs here.

    A mistyped one is told at once, and not after ten attempts. The command, which is named, ends
    where there is none.
    """
    url = url or _own(command)
    try:
        httpx.get(f"{url.rstrip('/')}/health/live", timeout=10.0)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        fail(command, f"no gateway answers at {url} ({error}): give --url, as in http://host:8000")
    return url


def _own(command: str) -> str:
    from astrotriton.folders import data_folder

    try:
        from astrotriton import stack
    except ModuleNotFoundError:  # only other people's gateways are known here
        fail(command, "no gateway: give --url, or set ASTROTRITON_GATEWAY_URL")
    addresses = stack.running(data_folder())
    if addresses is None:
        fail(command, "no gateway: give --url, or start one with `astrotriton up`")
    return addresses.gateway_url
