"""Commands that convert, ask and publish a registered version."""

from typing import Any

import click
import msgspec

from astrotriton.commands.models.options import (
    calibration_fields_option,
    common_options,
    fields_option,
    precision_option,
    validation_option,
)
from astrotriton.commands.models.settings import (
    known_version,
    quiet,
    serving_of,
    settings_of,
    trial_of,
)
from astrotriton.commands.models.telling import EXIT_CODES, Report, gates_text
from astrotriton.settings import ModelConfig

# Fields that travel with a version exported without its gates.
_TRAVELLING = 32


@click.command(epilog=EXIT_CODES)
@click.argument("model")
@precision_option
@common_options
def export(model: str, precision: Any, as_json: bool, repository: str | None) -> None:
    """Convert MODEL to ONNX, compare it with Keras, and publish it. Nothing serves it yet.

    MODEL is models:/NAME/7, models:/NAME@alias, NAME/latest, or 7, @alias or latest of the model
    that the settings name.
    """
    report = Report("export", as_json)
    with report.telling():
        settings = settings_of(repository)
        quiet()
        registered = known_version(model)
        from astrotriton.export import pipeline
        from astrotriton.training.exposures import golden_tiles, validation_set

        exported = pipeline.export(
            registered.uri,
            settings.model_repository,
            ModelConfig(),
            golden_tiles,
            precision=precision,
            serve=False,
            fields=lambda: validation_set(_TRAVELLING),
            on_progress=report.progress,
        )
        report.result(
            f"{exported.name} version {exported.version} is published in {exported.location}",
            name=exported.name,
            version=exported.version,
            location=exported.location,
            published_before=exported.published_before,
            manifest=msgspec.to_builtins(exported.manifest),
        )


@click.command(epilog=EXIT_CODES)
@click.argument("model")
@precision_option
@fields_option
@calibration_fields_option
@validation_option
@common_options
def verify(
    model: str,
    precision: Any,
    fields: int,
    calibration_fields: int,
    validation: str | None,
    as_json: bool,
    repository: str | None,
) -> None:
    """Put MODEL through every gate, in a sandbox, and publish nothing.

    The gates' figures go to MODEL's MLflow run. MODEL is named as for `export`.
    """
    report = Report("verify", as_json)
    with report.telling():
        serving = serving_of(settings_of(repository))
        quiet()
        registered = known_version(model)
        from astrotriton.export import pipeline
        from astrotriton.training.exposures import golden_tiles

        candidate = pipeline.verify(
            registered,
            serving.repository,
            serving.settings,
            golden_tiles,
            trial=trial_of(registered, fields, calibration_fields, report, validation),
            profile=serving.profile,
            precision=precision,
            on_progress=report.progress,
        )
        report.result(
            gates_text(candidate.manifest), manifest=msgspec.to_builtins(candidate.manifest)
        )
