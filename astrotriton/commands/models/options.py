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


def approval_options(command: Callable[..., None]) -> Callable[..., None]:
    """Options of what waits for a person's word."""
    for option in (
        click.option(
            "--approval-timeout",
            type=click.FloatRange(0.0),
            default=24.0,
            show_default=True,
            metavar="HOURS",
            help="How long to wait for approval.",
        ),
        click.option(
            "--require-approval",
            is_flag=True,
            envvar="ASTROTRITON_REQUIRE_APPROVAL",
            help="Wait for a person's approval, a tag in MLflow, once the gates have passed.",
        ),
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
validation_option = click.option(
    "--validation",
    metavar="FOLDER|s3://...",
    help="Judge on labelled exposures of your own, in place of simulated fields: a folder or "
    "prefix with truth.json and the files that it names, or with a validation.fits. The confidence "
    "is then left as it was registered.",
)
