"""The command that promotes what gets an alias in MLflow."""

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click

from astrotriton.commands.models.settings import quiet, settings_of
from astrotriton.commands.models.telling import EXIT_CODES, Report
from astrotriton.settings import ModelConfig

if TYPE_CHECKING:
    from astrotriton.export.webhook import AliasSet

# What became of it, as a tag of the version.
_TAG = "astrotriton.promotion"
_LONGEST = 500  # characters of a tag


@click.command(epilog=EXIT_CODES, context_settings={"ignore_unknown_options": True})
@click.argument("address", metavar="HOST:PORT")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--alias", required=True, help="The alias that has a version promoted.")
@click.option(
    "--secret",
    envvar="ASTROTRITON_WEBHOOK_SECRET",
    required=True,
    help="That the webhook in MLflow was made with; best by its environment variable.",
)
def listen(address: str, options: tuple[str, ...], alias: str, secret: str) -> None:
    """Promote each version of the settings' model that gets an alias in MLflow.

    It waits at HOST:PORT for MLflow's webhook `model_version_alias.created`, believes what is
    signed with the secret, and runs `astrotriton promote` with OPTIONS for each version, one after
    another. What became of it is said in the version's tag astrotriton.promotion.
    """
    report = Report("listen", as_json=False)
    with report.telling():
        settings_of(None)
        quiet()
        from astrotriton.export import registry
        from astrotriton.export.webhook import Listener, Receiver

        if alias in (registry.CHAMPION, registry.CHALLENGER, registry.PREVIOUS):
            raise click.UsageError(f"--alias {alias}: a promotion itself moves it; take another")
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise click.UsageError(f"{address!r} is no HOST:PORT")

        def promote(told: "AliasSet") -> None:
            uri = f"models:/{told.name}/{told.version}"
            report.progress(f"promoting {uri}")
            said = _promoted(uri, options)
            report.progress(f"{uri}: {said}")
            registry.set_tags(registry.resolve(uri), {_TAG: said[:_LONGEST]})

        receiver = Receiver(secret=secret, name=ModelConfig().model_name, alias=alias)
        try:
            listener = Listener((host.strip("[]"), int(port)), receiver, promote)
        except OSError as error:
            raise click.ClickException(f"cannot listen at {address}: {error.strerror}") from None
        report.progress(f"waiting for the alias {alias} at {host}:{listener.port}")
        listener.run()


def _promoted(uri: str, options: tuple[str, ...]) -> str:
    """Promote a version in a process of its own; what became of it, in words."""
    secrets = {"ASTROTRITON_WEBHOOK_SECRET"}
    done = subprocess.run(
        [sys.executable, "-m", "astrotriton", "promote", uri, *options, "--json"],
        env={name: value for name, value in os.environ.items() if name not in secrets},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return "done"
    try:
        error = json.loads(done.stdout)["error"]
    except (ValueError, KeyError):
        error = "see what the listener printed"
    return f"exit code {done.returncode}: {error}"
