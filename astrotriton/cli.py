"""The one command line.

A command's module is imported when the command runs, so that `astrotriton --help` answers at once.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import click

import astrotriton

# Name: the module that has it, and the line that `--help` shows without importing it.
_COMMANDS = {
    "demo": ("stack", "Run the whole way once, on real servers, for one exposure."),
    "up": ("stack", "Start every server and keep it serving."),
    "down": ("stack", "Stop what `up` started."),
    "register": ("models", "Register a Keras model with its card in MLflow."),
    "card": ("models", "Show, check and compare model cards."),
    "export": ("models", "Convert a registered model and publish it; nothing serves it yet."),
    "verify": ("models", "Put a registered model through every gate, and change nothing."),
    "promote": ("models", "Make a registered model the champion, once it has passed every gate."),
    "rollback": ("models", "Bring the previous champion back."),
    "models": ("models", "Registry, repository, Tritons and gateway side by side."),
    "listen": ("models", "Promote each version that gets an alias in MLflow."),
    "compare": ("models", "Two versions side by side, on labelled fields and as they served."),
    "score": ("score", "Score an exposure through a gateway, and print its detections."),
    "alerts": ("alerts", "Pass alert packets of ZTF and Rubin on, each with a score."),
    "check": ("check", "Have a gateway validate a version, or look whether it has drifted."),
    "keys": ("keys", "Create, list and revoke API keys of the gateway."),
    "adapt": ("adapt", "Make the network a survey's own, from its difference exposures."),
    "recalibrate": ("recalibrate", "Fit a confidence anew to labels of a version's detections."),
    "train": ("training", "Train the reference U-Net on simulated fields."),
    "evaluate": ("training", "Measure the reference U-Net on fields that nothing was tuned to."),
}


# The extra that brings what a module's commands need; the others need nothing more.
_EXTRAS = {
    "stack": "stack",
    "models": "export",
    "keys": "server",
    "training": "training",
    "adapt": "training",
    "recalibrate": "export",
    "alerts": "alerts",
}


class _LazyGroup(click.Group):
    """A group whose commands are named here and live in `astrotriton.commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        with _naming_the_extra(lambda: cmd_name):
            module = importlib.import_module(f"astrotriton.commands.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        # A group knows the command's name only while it invokes it.
        with _naming_the_extra(lambda: ctx.invoked_subcommand):
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@contextlib.contextmanager
def _naming_the_extra(command: Callable[[], str | None]) -> Iterator[None]:
    """Say which extra to install where a package is missing that a command needs."""
    try:
        yield
    except ModuleNotFoundError as error:
        name = command() or ""
        extra = _EXTRAS.get(_COMMANDS[name][0]) if name in _COMMANDS else None
        if extra is None or (error.name or "").startswith("astrotriton"):
            raise
        raise click.ClickException(
            f"`astrotriton {name}` needs {error.name}, which is not installed:"
            f" pip install 'astrotriton[{extra}]'"
        ) from None


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(astrotriton.__version__)
def main() -> None:
    """Serve an astronomical U-Net on Triton, and score the detections of an exposure."""


def number_or_name(given: str | None) -> Any:
    """As an HDU or a version is named; the request says which names there are."""
    return int(given) if given is not None and given.isdecimal() else given


def fail(command: str, error: object) -> NoReturn:
    """End a command with its error on stderr and exit code 1."""
    click.secho(f"{command} failed: {error}", fg="red", err=True)
    raise SystemExit(1)
