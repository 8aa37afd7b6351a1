"""``python -m gateway``: serve, or bring the database's schema up to date."""

import asyncio
from typing import TypeVar

import click
from pydantic import ValidationError

from detection.config import ModelConfig
from gateway.config import Settings
from gateway.server import serve
from gateway.storage.migrate import head, migrate

_Settings = TypeVar("_Settings", Settings, ModelConfig)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """The gateway; its settings are read from ASTROTRITON_*."""


@main.command("serve")
def serve_command() -> None:
    """Serve until stopped."""
    serve(_checked(Settings), _checked(ModelConfig))


@main.command("migrate")
def migrate_command() -> None:
    """Bring the database's schema up to date. Safe to run from several places at once."""
    asyncio.run(migrate(_checked(Settings).database_url.get_secret_value()))
    click.echo(f"schema {head()}")


def _checked(settings: type[_Settings]) -> _Settings:
    try:
        return settings()
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise click.ClickException("settings (ASTROTRITON_*): " + "; ".join(faults)) from None


if __name__ == "__main__":
    main(prog_name="python -m gateway")
