"""Where models are served, and what a version is tried on, by the settings."""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from astrotriton.commands.models.telling import Report
from astrotriton.detection.card import ModelCard
from astrotriton.settings import ModelConfig
from astrotriton.wire.models import served_name

if TYPE_CHECKING:
    from astrotriton.detection.scoring.inference import Predict
    from astrotriton.export.gates.version import Trial
    from astrotriton.export.promotion import Serving
    from astrotriton.export.registry import RegisteredVersion
    from astrotriton.export.repository import Repository

# Training, validation and golden tiles use others.
_CALIBRATION_SEED = 6_000_000


class PromotionSettings(BaseSettings):
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
    token: str = Field(
        "",
        title="Token",
        description="API key or OIDC token for the gateway, with scope `admin`.",
    )
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


def uri_of(model: str) -> str:
    """A model's full URI; a bare version, alias or ``latest`` is one of the settings' model."""
    name = ModelConfig().model_name
    if re.fullmatch(r"latest|[0-9]+", model):
        return f"models:/{name}/{model}"
    if model.startswith("@"):
        return f"models:/{name}{model}"
    return model


def known_version(model: str) -> "RegisteredVersion":
    """The version that a user named, before anything that takes long is imported.

    Raises
    ------
    ExportError
        If there is none, or MLflow cannot be reached.
    """
    from astrotriton.export import registry

    return registry.resolve(uri_of(model))


def known_name(name: str | None, repository: "Repository") -> str:
    """The model that a user named, or the settings' one; it is published.

    Raises
    ------
    ExportError
        If it is not, or the repository cannot be reached.
    """
    from astrotriton.export.errors import UnknownVersionError

    name = served_name(name or ModelConfig().model_name)
    if not repository.versions(name):
        raise UnknownVersionError(
            f"nothing of {name!r} is published in {repository.location}; published are"
            f" {', '.join(repository.names()) or 'no models'}"
        )
    return name


def settings_of(repository: str | None) -> PromotionSettings:
    """The settings, completed by the stack that serves on this machine, if there is one."""
    from astrotriton import stack
    from astrotriton.folders import data_folder
    from astrotriton.one_machine.bringup import repository_of

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
    return PromotionSettings(**given)


def serving_of(settings: PromotionSettings) -> "Serving":
    """Everything that a change of what is served touches."""
    from astrotriton.export.gateway_routes import Gateway
    from astrotriton.export.promotion import Serving
    from astrotriton.export.repository import Repository
    from astrotriton.export.serving import addresses_of

    config = ModelConfig()
    url = settings.gateway_url
    return Serving(
        repository=Repository(settings.model_repository),
        replicas=addresses_of(settings.triton_grpc.split(",")),
        gateway=Gateway(url, settings.token or None) if url else None,
        settings=config,
        profile=settings.profile or config.device(),
        keep=settings.keep_versions,
    )


def trial_of(
    registered: "RegisteredVersion",
    fields: int,
    calibration_fields: int,
    report: Report,
    validation: str | None = None,
) -> "Trial":
    """What a version is tried on.

    These are the labelled exposures at ``validation``, a folder or a prefix of a bucket; without
    it the labelled fields that the version brings, or else so many simulated ones.

    Raises
    ------
    ExportError
        If the exposures, or the fields that it brings, cannot be read.
    """
    from astrotriton.export.gates.version import Trial
    from astrotriton.export.own_fields import fields_of
    from astrotriton.export.validation_sets import open_fields
    from astrotriton.one_machine.trial_triton import lent_sandbox, open_sandbox
    from astrotriton.settings import GateSettings
    from astrotriton.training.exposures import validation_set

    def calibrate(card: ModelCard, predict: "Predict") -> ModelCard:
        from astrotriton.training.calibrate import Sizes, calibrated

        if card.confidence is not None and not card.confidence.risk.thresholds:
            report.progress("the confidence was fitted to labels, so it stays as it is")
            return card
        # As training divides them: what is vouched for needs many exposures.
        regression, calibration = (round(share * calibration_fields) for share in (0.3, 0.2))
        rest = calibration_fields - regression - calibration
        sizes = Sizes(regression=regression, calibration=calibration, exposures=rest)
        return calibrated(
            card, predict, seed=_CALIBRATION_SEED, sizes=sizes, on_progress=report.progress
        )

    settings = PromotionSettings()
    lent = lent_sandbox(settings.sandbox_grpc, settings.sandbox_folder)
    own = fields_of(registered) if validation is None else open_fields(validation)
    if own is not None:
        where = f"{len(own.fields)} fields of {validation}" if validation else "what it brings"
        report.progress(f"judged on {where}: {own.description}")
    return Trial(
        validation=lambda: own or validation_set(fields),
        open_sandbox=lent if settings.sandbox_grpc else open_sandbox,
        # A confidence that was fitted to a survey is not replaced by one of the simulated sky.
        calibrate=calibrate if own is None else None,
        limits=GateSettings(),
    )


def quiet() -> None:
    """Keep TensorFlow and MLflow from telling of themselves."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")
    from astrotriton.detection.image.exposure import mute_astropy

    mute_astropy()
