"""``python -m astrotriton.gateway``: serve, and what has to be done before."""

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import click
from pydantic import ValidationError

import astrotriton
from astrotriton.detection.errors import InputError
from astrotriton.gateway.backends.object_store import ObjectStore
from astrotriton.gateway.errors import GatewayError
from astrotriton.gateway.fetch import FetchError, Pin, fetch
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.storage.migrate import head, migrate
from astrotriton.objects import Location
from astrotriton.settings import ModelConfig

# Seconds for one file of a model.
_PATIENCE = 300.0

_KEPT = ".keep"

_Settings = TypeVar("_Settings", GatewaySettings, ModelConfig)


def _store_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--region", envvar="AWS_DEFAULT_REGION", default="auto", show_default=True),
        click.option(
            "--endpoint",
            envvar="AWS_ENDPOINT_URL_S3",
            help="The store, where it is not AWS's.",
        ),
    ):
        command = option(command)
    return command


def _objects(location: str, endpoint: str | None, region: str) -> ObjectStore:
    bucket = Location.parse(location).store
    return ObjectStore([bucket], endpoint=endpoint, region=region, timeout=_PATIENCE)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(astrotriton.__version__, prog_name="astrotriton gateway")
def main() -> None:
    """The gateway; its settings are read from ASTROTRITON_*."""


@main.command("serve")
def serve_command() -> None:
    """Serve until stopped."""
    from astrotriton.gateway.server import serve  # imports what takes seconds, as `work` does

    serve(_checked(GatewaySettings), _checked(ModelConfig))


@main.command("work")
def work_command() -> None:
    """Make reports on drift and log to MLflow until stopped, for gateways that leave it to this."""
    from astrotriton.gateway.worker import WorkerError, work

    try:
        work(_checked(GatewaySettings), _checked(ModelConfig))
    except WorkerError as error:
        raise click.ClickException(str(error)) from error


@main.command("migrate")
def migrate_command() -> None:
    """Bring the database's schema up to date. Safe to run from several places at once."""
    asyncio.run(migrate(_checked(GatewaySettings).database_url.get_secret_value()))
    click.echo(f"schema {head()}")


@main.command("prepare-repository")
@click.argument("location")
@_store_options
def prepare_command(location: str, endpoint: str | None, region: str) -> None:
    """Put an empty object under LOCATION, s3://bucket/prefix, if there is nothing yet.

    A Triton that finds no such prefix when it starts loads nothing until it is started again.
    """
    try:
        objects = _objects(location, endpoint, region)
        if asyncio.run(_prepared(objects, location)):
            click.echo(f"{location} was empty; {_KEPT} lies there now")
        else:
            click.echo(f"{location} has objects already")
    except (GatewayError, InputError, OSError, ValueError) as error:
        raise click.ClickException(
            f"{error}; put an object under {location} yourself, or let these keys do so"
        ) from error


async def _prepared(objects: ObjectStore, location: str) -> bool:
    if empty := await objects.is_empty(location):
        await objects.write(f"{location}/{_KEPT}", b"")
    return empty


@main.command("fetch-model")
@click.argument("location")
@click.argument("name")
@click.option(
    "--pin",
    "pins",
    multiple=True,
    required=True,
    metavar="N@sha256:DIGEST",
    help="A version, and the SHA-256 of its card.json; several may be given.",
)
@click.option(
    "--to",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder that the copy is made in.",
)
@_store_options
def fetch_command(
    location: str,
    name: str,
    pins: tuple[str, ...],
    folder: Path,
    endpoint: str | None,
    region: str,
) -> None:
    """Copy pinned versions of the model NAME from LOCATION, s3://bucket/prefix.

    Every file is checked against its digest, and nothing is there before all of them are right.
    """
    try:
        objects = _objects(location, endpoint, region)
        pinned = [Pin.parse(pin) for pin in pins]
        asyncio.run(fetch(location, name, pinned, folder, objects))
    except (FetchError, GatewayError, InputError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{name} version {', '.join(str(pin.version) for pin in pinned)} in {folder / name}")


def _checked(settings: type[_Settings]) -> _Settings:
    try:
        return settings()
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise click.ClickException("settings (ASTROTRITON_*): " + "; ".join(faults)) from None


def _run() -> NoReturn:
    """Run a command, and leave as soon as it is done.

    The object store's threads may still be giving back what they held of Python, and one that does
    so while the interpreter is being taken down aborts the process.
    """
    status: object = 0
    try:
        main(prog_name="python -m astrotriton.gateway")
    except SystemExit as end:
        status = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else bool(status))


if __name__ == "__main__":
    _run()
