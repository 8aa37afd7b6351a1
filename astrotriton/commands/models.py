"""Commands that bring a registered model into service, and back out of it."""

import contextlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from astrotriton.detection.card import UNetModel
from astrotriton.export.errors import ExportError, GateError, ServingError, UnfinishedError
from astrotriton.settings import ModelConfig

if TYPE_CHECKING:
    from astrotriton.detection.scoring.tiled_inference import Predict
    from astrotriton.export.gates.version import Trial
    from astrotriton.export.manifest import Manifest
    from astrotriton.export.promotion import Live, Serving

#: Exit codes: a fault, a refusal by a gate, servers that would not take the version, and a change
#: that stopped half-way.
FAULT, REFUSED, NOT_LIVE, UNFINISHED = 1, 3, 4, 5

# Training, validation and golden tiles use others.
_CALIBRATION_SEED = 6_000_000
# Fields that travel with a version exported without its gates.
_TRAVELLING = 32
_EXIT_CODES = f"""
Exit code 0: done. {FAULT}: a fault. {REFUSED}: refused by a gate. {NOT_LIVE}: a Triton or the
gateway would not take it; everything is as it was. {UNFINISHED}: it stopped half-way, after the
route changed or where not everything could be put back; it says what is live, and the same command
again finishes it.
"""


class Settings(BaseSettings):
    """Where models are served, read from the environment as ``ASTROTRITON_<NAME>``.

    What is not set is taken from the stack that ``astrotriton up`` keeps serving, if there is one.
    """

    model_config = SettingsConfigDict(
        env_prefix="ASTROTRITON_", frozen=True, protected_namespaces=(), extra="ignore"
    )

    model_repository: str = Field(
        "model_repository",
        title="Model repository",
        description="What every Triton serves from: a folder, or `s3://bucket/prefix`.",
    )
    triton_grpc: str = Field(
        "127.0.0.1:8001",
        title="Triton addresses",
        description="`host:port`, several with commas; a DNS name stands for all its addresses.",
    )
    gateway_url: str = Field(
        "",
        title="Gateway",
        description="Address of the gateway; none where clients ask Triton alone.",
    )
    api_key: str = Field("", title="API key", description="For the gateway, with scope `admin`.")
    profile: str = Field(
        "",
        title="Profile",
        description="Of `triton-config/profiles/`; by default `gpu` or `cpu`, as this machine is.",
    )
    sandbox_grpc: str = Field(
        "",
        title="Sandbox",
        description="`host:port` of a Triton that serves nobody, where versions are tried: the "
        "very server that is to serve them. Without it, one is started from pip's packages.",
    )
    sandbox_folder: Path = Field(
        Path("/sandbox"),
        title="Sandbox's models",
        description="Its model repository, a folder that this command sees under the same name, "
        "and in which its temporary files lie (TMPDIR).",
    )
    keep_versions: int = Field(
        3,
        title="Versions kept",
        description="Published versions kept, the champion and the one before included.",
        ge=2,
    )


@dataclass(frozen=True, slots=True)
class Report:
    """Tells a command's progress on stderr and its result on stdout."""

    command: str
    as_json: bool

    def progress(self, what: str) -> None:
        """What comes next."""
        click.secho(f"  {what}", dim=True, err=True)

    def result(self, text: str, **data: Any) -> None:
        """The end of it, for people or as JSON."""
        click.echo(json.dumps(data, indent=2) if self.as_json else text)

    def fail(self, error: ExportError) -> NoReturn:
        """End the command with its error."""
        code = FAULT
        if isinstance(error, GateError):
            code = REFUSED
        elif isinstance(error, ServingError):
            code = NOT_LIVE
        elif isinstance(error, UnfinishedError):
            code = UNFINISHED
        notes = getattr(error, "__notes__", [])
        if self.as_json:
            data: dict[str, Any] = {"error": str(error), "notes": notes, "exit_code": code}
            if isinstance(error, GateError):
                data["manifest"] = msgspec.to_builtins(error.manifest)
            click.echo(json.dumps(data, indent=2))
        else:
            if isinstance(error, GateError):
                click.echo(_gates(error.manifest))
            for line in (f"{self.command} failed: {error}", *notes):
                click.secho(line, fg="red", err=True)
        raise SystemExit(code)

    @contextlib.contextmanager
    def telling(self) -> Iterator[None]:
        """Tell an `ExportError` and end."""
        try:
            yield
        except ExportError as error:
            self.fail(error)


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
        click.option("--repository", help="Model repository: a folder or s3://bucket/prefix."),
    ):
        command = option(command)
    return command


_precision = click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    default="fp32",
    show_default=True,
    help="Arithmetic of the ONNX file.",
)
_fields = click.option(
    "--fields",
    type=click.IntRange(4),
    default=32,
    show_default=True,
    help="Simulated fields that accuracy and calibration are measured on.",
)
_calibration_fields = click.option(
    "--calibration-fields",
    type=click.IntRange(20),
    default=240,
    show_default=True,
    help="Simulated fields that the confidence is fitted to anew, if it is not well calibrated.",
)


@click.command(epilog=_EXIT_CODES)
@click.argument("model")
@_precision
@_options
def export(model: str, precision: Any, as_json: bool, repository: str | None) -> None:
    """Convert MODEL to ONNX, compare it with Keras, and publish it. Nothing serves it yet.

    MODEL is models:/NAME/7, models:/NAME@alias, NAME/latest, or 7, @alias or latest of the model
    that the settings name.
    """
    report = Report("export", as_json)
    with report.telling():
        settings = _settings(repository)
        _quiet()
        from astrotriton.export import pipeline
        from astrotriton.training.exposures import golden_tiles, validation_set

        exported = pipeline.export(
            _uri(model),
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


@click.command(epilog=_EXIT_CODES)
@click.argument("model")
@_precision
@_fields
@_calibration_fields
@_options
def verify(
    model: str,
    precision: Any,
    fields: int,
    calibration_fields: int,
    as_json: bool,
    repository: str | None,
) -> None:
    """Put MODEL through every gate, in a sandbox, and publish nothing.

    The gates' figures go to MODEL's MLflow run. MODEL is named as for `export`.
    """
    report = Report("verify", as_json)
    with report.telling():
        serving = _serving(_settings(repository))
        _quiet()
        from astrotriton.export import pipeline, registry
        from astrotriton.training.exposures import golden_tiles

        candidate = pipeline.verify(
            registry.resolve(_uri(model)),
            serving.repository,
            serving.settings,
            golden_tiles,
            trial=_trial(fields, calibration_fields, report),
            profile=serving.profile,
            precision=precision,
            on_progress=report.progress,
        )
        report.result(_gates(candidate.manifest), manifest=msgspec.to_builtins(candidate.manifest))


@click.command(epilog=_EXIT_CODES)
@click.argument("model")
@click.option(
    "--shadow",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    metavar="FRACTION",
    help="Only score this share of the runs with MODEL too, and never answer it.",
)
@click.option(
    "--canary",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    metavar="FRACTION",
    help="Only answer this share of the runs with MODEL.",
)
@_precision
@_fields
@_calibration_fields
@_options
def promote(
    model: str,
    shadow: float | None,
    canary: float | None,
    precision: Any,
    fields: int,
    calibration_fields: int,
    as_json: bool,
    repository: str | None,
) -> None:
    """Make MODEL the champion, once it has passed every gate.

    It goes through the gates, is tried in a sandbox, published, loaded and proven on every Triton;
    then the alias `champion` moves in MLflow, and then the gateway asks it. If a step fails,
    everything is put back; after an interruption the same command finishes the job. MODEL is named
    as for `export`.
    """
    if shadow is not None and canary is not None:
        raise click.UsageError("give --shadow or --canary, not both")
    report = Report("promote", as_json)
    with report.telling():
        serving = _serving(_settings(repository))
        _quiet()
        from astrotriton.export.release import Role, release
        from astrotriton.training.exposures import golden_tiles

        role = Role()
        if shadow is not None:
            role = Role(mode="shadow", fraction=shadow)
        elif canary is not None:
            role = Role(mode="canary", fraction=canary)
        released = release(
            _uri(model),
            serving,
            golden_tiles,
            _trial(fields, calibration_fields, report),
            role,
            precision=precision,
            on_progress=report.progress,
        )
        report.result(
            f"{_gates(released.manifest)}\n{_live(released.live)}",
            live=msgspec.to_builtins(released.live),
            manifest=msgspec.to_builtins(released.manifest),
        )


@click.command(epilog=_EXIT_CODES)
@click.argument("name", required=False)
@click.option("--challenger", is_flag=True, help="Only end the trial of the challenger.")
@_options
def rollback(name: str | None, challenger: bool, as_json: bool, repository: str | None) -> None:
    """Make the previous champion of the model NAME the champion again."""
    report = Report("rollback", as_json)
    with report.telling():
        serving = _serving(_settings(repository))
        from astrotriton.export import promotion

        act = promotion.withdraw if challenger else promotion.rollback
        name = name or ModelConfig().model_name
        live = act(name, serving, on_progress=report.progress)
        report.result(_live(live), live=msgspec.to_builtins(live))


@click.command(epilog=_EXIT_CODES)
@click.argument("name", required=False)
@_options
def models(name: str | None, as_json: bool, repository: str | None) -> None:
    """Show registry, repository, Tritons and gateway side by side for the model NAME."""
    report = Report("models", as_json)
    with report.telling():
        serving = _serving(_settings(repository))
        from astrotriton.export.overview import overview

        seen = overview(name or ModelConfig().model_name, serving)
        report.result(seen.text(), **msgspec.to_builtins(seen))


def _uri(model: str) -> str:
    """A model's full URI; a bare version, alias or ``latest`` is one of the settings' model."""
    name = ModelConfig().model_name
    if re.fullmatch(r"latest|[0-9]+", model):
        return f"models:/{name}/{model}"
    if model.startswith("@"):
        return f"models:/{name}{model}"
    return model


def _settings(repository: str | None) -> Settings:
    """The settings, completed by the stack that serves on this machine, if there is one."""
    from astrotriton import stack
    from astrotriton.folders import data_folder
    from astrotriton.local.bringup import repository_of

    given: dict[str, Any] = {"model_repository": repository} if repository else {}
    data = data_folder()
    if (addresses := stack.running(data)) is not None:
        found = {
            "model_repository": str(repository_of(data)),
            "triton_grpc": addresses.triton_grpc,
            "gateway_url": addresses.gateway_url,
        }
        unset = (name for name in found if f"ASTROTRITON_{name.upper()}" not in os.environ)
        given = {name: found[name] for name in unset} | given
        os.environ.setdefault("MLFLOW_TRACKING_URI", addresses.mlflow_url)
    return Settings(**given)


def _serving(settings: Settings) -> "Serving":
    from astrotriton.export.gateway_routes import Gateway
    from astrotriton.export.promotion import Serving
    from astrotriton.export.repository import Repository
    from astrotriton.export.serving import addresses_of

    config = ModelConfig()
    url = settings.gateway_url
    return Serving(
        repository=Repository(settings.model_repository),
        replicas=addresses_of(settings.triton_grpc.split(",")),
        gateway=Gateway(url, settings.api_key or None) if url else None,
        settings=config,
        profile=settings.profile or config.device(),
        keep=settings.keep_versions,
    )


def _trial(fields: int, calibration_fields: int, report: Report) -> "Trial":
    from astrotriton.export.gates.version import Trial
    from astrotriton.local.trial_triton import lent_sandbox, open_sandbox
    from astrotriton.settings import GateSettings
    from astrotriton.training.exposures import validation_set

    def calibrate(card: UNetModel, predict: "Predict") -> UNetModel:
        from astrotriton.training.calibrate import Sizes, calibrated

        # As training divides them: what is vouched for needs many exposures.
        regression, calibration = (round(share * calibration_fields) for share in (0.3, 0.2))
        rest = calibration_fields - regression - calibration
        sizes = Sizes(regression=regression, calibration=calibration, exposures=rest)
        return calibrated(
            card, predict, seed=_CALIBRATION_SEED, sizes=sizes, on_progress=report.progress
        )

    settings = Settings()
    lent = lent_sandbox(settings.sandbox_grpc, settings.sandbox_folder)
    return Trial(
        validation=lambda: validation_set(fields),
        open_sandbox=lent if settings.sandbox_grpc else open_sandbox,
        calibrate=calibrate,
        limits=GateSettings(),
    )


def _gates(manifest: "Manifest") -> str:
    lines = [
        f"{'passed' if gate.passed else 'FAILED'}  {gate.name:<16} {gate.detail}"
        for gate in manifest.gates
    ]
    return "\n".join([f"{manifest.name} version {manifest.version}", *lines])


def _live(live: "Live") -> str:
    text = f"{live.name}: version {live.champion} is the champion"
    if live.previous_champion is not None:
        text += f"; `astrotriton rollback {live.name}` brings {live.previous_champion} back"
    if live.challenger is not None:
        share = f"{live.challenger.fraction:.0%} of the runs"
        text += f"\nversion {live.challenger.version} is tried as {live.challenger.mode} on {share}"
    if live.removed:
        text += f"\nremoved from the repository: {', '.join(map(str, live.removed))}"
    return text


def _quiet() -> None:
    """Keep TensorFlow and MLflow from telling of themselves."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
    from astrotriton.detection.image.exposure import mute_astropy

    mute_astropy()
