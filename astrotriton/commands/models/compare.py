"""The command that puts two versions side by side."""

import click
import msgspec

from astrotriton.commands.models.options import common_options
from astrotriton.commands.models.settings import known_version, quiet, serving_of, settings_of
from astrotriton.commands.models.telling import EXIT_CODES, Report
from astrotriton.wire.windows import length_of


def _window(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        length_of(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


@click.command(epilog=EXIT_CODES)
@click.argument("one")
@click.argument("other")
@click.option(
    "--fields",
    type=click.IntRange(0),
    default=32,
    show_default=True,
    help="Simulated fields that both are measured on; 0: none.",
)
@click.option(
    "--window",
    default="24h",
    show_default=True,
    callback=_window,
    help="The time up to now that served runs are taken from, such as 15m, 24h or 7d.",
)
@common_options
def compare(
    one: str, other: str, fields: int, window: str, as_json: bool, repository: str | None
) -> None:
    """Put the versions ONE and OTHER of a model side by side.

    They are measured on the same labelled fields, as the gates do it. Of a gateway it asks what was
    measured while they served, and what both made of the same exposures. Both are named as for
    `export`. Nothing is changed.
    """
    report = Report("compare", as_json)
    with report.telling():
        serving = serving_of(settings_of(repository))
        quiet()
        first, second = known_version(one), known_version(other)
        if first.name != second.name or first.version == second.version:
            raise click.UsageError("give two versions of one model")
        from astrotriton.export import comparison
        from astrotriton.training.exposures import validation_set

        found = comparison.Comparison(
            name=first.name, one=first.version, other=second.version, window=window
        )
        if fields:
            described, figures = comparison.on_fields(
                first,
                second,
                serving.repository,
                lambda: validation_set(fields),
                report.progress,
            )
            found = msgspec.structs.replace(found, fields=described, figures=figures)
        if serving.gateway is None:
            faults = ["what was scored of late: there is no gateway (ASTROTRITON_GATEWAY_URL)"]
            found = msgspec.structs.replace(found, faults=faults)
        else:
            lately, agreement, faults = comparison.lately(first, second, serving.gateway, window)
            found = msgspec.structs.replace(
                found, lately=lately, agreement=agreement, faults=faults
            )
        report.result(found.text(), **msgspec.to_builtins(found))
