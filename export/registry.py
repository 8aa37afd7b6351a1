"""The MLflow registry: register a Keras U-Net with its card, and find and load it again.

MLflow's own settings say where the registry is (``MLFLOW_TRACKING_URI``, or
``mlflow.set_tracking_uri``).
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import mlflow
import msgspec
import numpy as np
import requests
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, get_model_info
from mlflow.tracking import MlflowClient
from mlflow.types import Schema, TensorSpec

from detection.errors import CardError
from detection.model import UNetModel
from export import digests
from export.errors import RegistryError

if TYPE_CHECKING:
    import keras

CARD_FILE = "card.json"
DIGEST_TAG = "astrotriton.source_digest"

_URI = re.compile(
    r"models:/(?P<name>[A-Za-z0-9_-]+)(?:/(?P<version>latest|[1-9][0-9]*)|@(?P<alias>[A-Za-z0-9_.-]+))"
)
_REACH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version in the registry, by number: what an alias or ``latest`` meant when it was resolved.

    Attributes
    ----------
    name, version
        As in MLflow, and so as in Triton.
    run_id
        The run that logged it; None if it was logged outside one.
    digest
        `export.digests.of_source` at registration; None if something else registered it.
    """

    name: str
    version: int
    run_id: str | None
    digest: str | None

    @property
    def uri(self) -> str:
        """MLflow's URI of exactly this version."""
        return f"models:/{self.name}/{self.version}"


def register(model: "keras.Model", card: UNetModel) -> int:
    """Log a model and its card to a new run, and register it under the card's name.

    Registering the same model with the same card again answers the version that it already is.

    Parameters
    ----------
    model
        Takes float32 (N, H, W, C), as the card's input says in NCHW.
    card
        Its metrics and parameters are logged to the run, and the card itself as ``card.json``.

    Returns
    -------
    int
        MLflow's version number.

    Raises
    ------
    RegistryError
        If MLflow cannot be reached or refuses.
    """
    # Imports TensorFlow.
    import keras
    import mlflow.keras
    import tensorflow as tf

    digest = digests.of_source(model, card)
    card = msgspec.structs.replace(card, version=None, digests={})
    with _mlflow(f"register {card.name!r}") as client:
        for known in _versions(client, card.name):
            if known.digest == digest:
                return known.version
        with mlflow.start_run(experiment_id=_experiment(client, card.name)):
            mlflow.log_params(_params(card))
            mlflow.log_metrics(card.training_metrics)
            mlflow.log_text(card.to_json().decode(), CARD_FILE)
            logged = mlflow.keras.log_model(
                model,
                name="model",
                signature=_signature(card),
                # Left out, MLflow loads the model in another process to find them: 20 s.
                pip_requirements=[f"keras=={keras.__version__}", f"tensorflow=={tf.__version__}"],
            )
            # The tag comes with the version: no version is ever without it.
            registered = mlflow.register_model(
                logged.model_uri, card.name, tags={DIGEST_TAG: digest}
            )
    return int(registered.version)


def resolve(uri: str) -> RegisteredVersion:
    """The version that a URI means now.

    Parameters
    ----------
    uri
        ``models:/NAME/7``, ``models:/NAME/latest`` (the highest number) or ``models:/NAME@alias``.

    Raises
    ------
    RegistryError
        If it is none of these, there is no such version, or MLflow cannot be reached.
    """
    if not (match := _URI.fullmatch(uri)):
        raise RegistryError(
            f"{uri!r} names no registered model: write models:/NAME/7, models:/NAME/latest or"
            " models:/NAME@alias, with NAME of letters, digits, '_' and '-'"
        )
    name, version, alias = match.group("name", "version", "alias")
    with _mlflow(f"resolve {uri!r}") as client:
        if version == "latest":
            if not (known := _versions(client, name)):
                where = mlflow.get_tracking_uri()
                raise RegistryError(f"MLflow at {where} has no version of {name!r}: register one")
            return max(known, key=lambda one: one.version)
        if alias:
            return _registered(client.get_model_version_by_alias(name, alias))
        return _registered(client.get_model_version(name, version))


def load_keras(registered: RegisteredVersion) -> "keras.Model":
    """The Keras model of a version.

    Raises
    ------
    RegistryError
        If it was logged with another flavour, does not load, or MLflow cannot be reached.
    """
    with _mlflow(f"read {registered.uri}"):
        flavors = get_model_info(registered.uri).flavors
    if "keras" not in flavors:
        raise RegistryError(
            f"{registered.uri} was logged with the flavours {sorted(flavors)}, not with keras:"
            " log it with mlflow.keras.log_model"
        )
    if flavors["keras"].get("save_exported_model"):
        raise RegistryError(
            f"{registered.uri} was logged with save_exported_model=True, which Keras cannot load"
            " again: log it without"
        )
    import mlflow.keras  # Imports TensorFlow.

    with _mlflow(f"load {registered.uri}"):
        try:
            return mlflow.keras.load_model(registered.uri)
        except (ValueError, TypeError, OSError) as error:
            raise RegistryError(
                f"Keras cannot load {registered.uri}; log the model again with the Keras that runs"
                f" here: {error}"
            ) from error


def load_card(registered: RegisteredVersion) -> UNetModel:
    """The card that was registered with a version, its version filled in.

    Raises
    ------
    RegistryError
        If the run has no card, the card is of another model or cannot be read, or MLflow cannot be
        reached.
    """
    remedy = "register the model with export.registry.register, which logs its card"
    if registered.run_id is None:
        raise RegistryError(f"{registered.uri} belongs to no run, so it has no card: {remedy}")
    with _mlflow(f"read the card of {registered.uri}") as client:
        if CARD_FILE not in {file.path for file in client.list_artifacts(registered.run_id)}:
            raise RegistryError(
                f"run {registered.run_id} of {registered.uri} has no {CARD_FILE}: {remedy}"
            )
        text = mlflow.artifacts.load_text(f"runs:/{registered.run_id}/{CARD_FILE}")
    try:
        card = UNetModel.from_json(text)
    except CardError as error:
        raise RegistryError(f"{CARD_FILE} of {registered.uri}: {error}") from error
    if card.name != registered.name:
        raise RegistryError(
            f"{CARD_FILE} of {registered.uri} is of another model, {card.name!r}: {remedy}"
        )
    return msgspec.structs.replace(card, version=registered.version)


def record(registered: RegisteredVersion, card: UNetModel, figures: Mapping[str, float]) -> None:
    """Log the card as it is published, and the figures that let it be, to the version's run.

    Parameters
    ----------
    figures
        Metrics by name.

    Raises
    ------
    RegistryError
        If MLflow cannot be reached or refuses.
    """
    if registered.run_id is None:
        return
    with _mlflow(f"record the export of {registered.uri}") as client:
        client.log_text(registered.run_id, card.to_json().decode(), f"export/{CARD_FILE}")
        for name, value in figures.items():
            client.log_metric(registered.run_id, name, value)


@contextmanager
def _mlflow(doing: str) -> Iterator[MlflowClient]:
    """A client of the registry, whose faults are told as a `RegistryError`."""
    where = mlflow.get_tracking_uri()
    try:
        if urlsplit(where).scheme in ("http", "https"):
            # MLflow itself retries a refused connection for minutes before it says so.
            requests.get(where, timeout=_REACH_SECONDS, stream=True).close()
        yield MlflowClient()
    except MlflowException as error:
        raise RegistryError(f"cannot {doing} in MLflow at {where}: {error.message}") from error
    except requests.RequestException as error:
        raise RegistryError(
            f"cannot {doing}: MLflow at {where} cannot be reached; start it, or set"
            f" MLFLOW_TRACKING_URI ({error})"
        ) from error


def _versions(client: MlflowClient, name: str) -> list[RegisteredVersion]:
    return [
        _registered(found)
        for found in client.search_model_versions(f"name='{name}'")
        if found.status == "READY"
    ]


def _registered(found: ModelVersion) -> RegisteredVersion:
    return RegisteredVersion(
        name=found.name,
        version=int(found.version),
        run_id=found.run_id or None,
        digest=found.tags.get(DIGEST_TAG),
    )


def _experiment(client: MlflowClient, name: str) -> str:
    if (found := client.get_experiment_by_name(name)) is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException:
        # Made by somebody else in between.
        if (found := client.get_experiment_by_name(name)) is not None:
            return str(found.experiment_id)
        raise


def _params(card: UNetModel) -> dict[str, object]:
    return {
        "trained_at": card.trained_at.isoformat(),
        "input_shape": card.input.shape,
        "output_shape": card.output.shape,
        "overlap": card.overlap,
        "threshold": card.threshold,
        "nms_radius": card.nms_radius,
        **{f"normalisation.{k}": v for k, v in msgspec.structs.asdict(card.normalisation).items()},
    }


def _signature(card: UNetModel) -> ModelSignature:
    """What the Keras model takes and gives: the card's tensors, channels last."""

    def schema(name: str, shape: tuple[int, int, int, int]) -> Schema:
        batch, channels, height, width = shape
        return Schema(
            [TensorSpec(np.dtype(np.float32), (batch, height, width, channels), name=name)]
        )

    return ModelSignature(
        inputs=schema(card.input.name, card.input.shape),
        outputs=schema(card.output.name, card.output.shape),
    )
