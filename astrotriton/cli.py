"""The one command line.

A command's module is imported when the command runs, so that `astrotriton --help` answers at once.
"""

import importlib
from typing import NoReturn

import click

import astrotriton

# Name: the module that has it, the extra that brings what it needs ("": nothing more), and the line
# that `--help` shows without importing it.
_COMMANDS = {
    "score": ("score", "", "Score an exposure through a gateway, and print its detections."),
    "check": ("check", "", "Have a gateway validate a version, or look whether it has drifted."),
    "demo": ("stack", "stack", "Run the whole way once, on real servers, for one exposure."),
    "up": ("stack", "stack", "Start every server and keep it serving."),
    "down": ("stack", "stack", "Stop what `up` started."),
    "export": (
        "models",
        "export",
        "Convert a registered model and publish it; nothing serves it yet.",
    ),
    "verify": (
        "models",
        "export",
        "Put a registered model through every gate, and change nothing.",
    ),
    "promote": (
        "models",
        "export",
        "Make a registered model the champion, once it has passed every gate.",
    ),
    "rollback": ("models", "export", "Bring the previous champion back."),
    "models": ("models", "export", "Registry, repository, Tritons and gateway side by side."),
    "keys": ("keys", "server", "Create, list and revoke API keys of the gateway."),
    "train": ("training", "training", "Train the reference U-Net on simulated fields."),
    "evaluate": (
        "training",
        "training",
        "Measure the reference U-Net on fields that nothing was tuned to.",
    ),
}


class _LazyGroup(click.Group):
    """A group whose commands are named here and live in `astrotriton.commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, extra, _ = _COMMANDS[cmd_name]
        try:
            found = importlib.import_module(f"astrotriton.commands.{module}")
        except ModuleNotFoundError as error:
            if extra and not (error.name or "").startswith("astrotriton"):
                raise _missing(cmd_name, extra, error) from None
            raise
        command: click.Command = getattr(found, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; one whose packages are missing names the extra that has them."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            name = ctx.invoked_subcommand or ""
            extra = _COMMANDS[name][1] if name in _COMMANDS else ""
            if not extra or (error.name or "").startswith("astrotriton"):
                raise
            raise _missing(name, extra, error) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


def _missing(command: str, extra: str, error: ModuleNotFoundError) -> click.ClickException:
    return click.ClickException(
        f"`astrotriton {command}` needs {error.name}, which is not installed:"
        f" pip install 'astrotriton[{extra}]'"
    )


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(astrotriton.__version__)
def main() -> None:
    """Serve an astronomical U-Net on Triton, and score the detections of an exposure."""


def fail(command: str, error: object) -> NoReturn:
    """End a command with its error on stderr and exit code 1."""
    click.secho(f"{command} failed: {error}", fg="red", err=True)
    raise SystemExit(1)
