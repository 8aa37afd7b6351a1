"""Options that several commands take."""

from collections.abc import Callable

import click


def common_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of every one of these commands: `--json` and `--repository`."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
        click.option("--repository", help="Model repository: a folder or s3://bucket/prefix."),
    ):
        command = option(command)
    return command


precision_option = click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Arithmetic of the ONNX file.",
)
fields_option = click.option(
    "--fields",
    type=click.IntRange(4),
    default=32,
    show_default=True,
    help="Simulated fields that accuracy and calibration are measured on.",
)
calibration_fields_option = click.option(
    "--calibration-fields",
    type=click.IntRange(20),
    default=240,
    show_default=True,
    help="Simulated fields that the confidence is fitted to anew, if it is not well calibrated.",
)
