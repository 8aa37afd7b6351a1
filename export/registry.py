"""The MLflow registry: register a Keras U-Net with its card, and find and load it again.

MLflow's own settings say where the registry is (``MLFLOW_TRACKING_URI``, or
``mlflow.set_tracking_uri``).
"""

import difflib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow
import msgspec
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.models import get_model_info
from mlflow.tracking import MlflowClient

from astrotriton.detection.card import ModelCard
from astrotriton.detection.errors import CardError
from astrotriton.export import digests, keras_files, logged_models, lowering
from astrotriton.export.errors import LoadError, RegistryError, UnknownVersionError
from astrotriton.export.manifest import Manifest
from astrotriton.export.mlflow_client import mlflow_client as _mlflow
from astrotriton.export.mlflow_client import unheard
from astrotriton.mlflow_names import LOGGED_MODEL, all_models, quoted
from astrotriton.wire.models import served_name

if TYPE_CHECKING:
    import keras

CARD_FILE, MANIFEST_FILE = "card.json", "manifest.json"
DIGEST_TAG = "astrotriton.source_digest"

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous_champion"

_OWN_TAGS = ("astrotriton.", "mlflow.")
_MANIFEST_TAG = "astrotriton.manifest_digest"
# MLflow shows metrics of one prefix together.
_SECONDS = "seconds/"
_LOOKED_AT = 10  # versions, for how long things took
_URI = re.compile(
    r"(?:models:/)?(?P<name>(?!\.+[/@])[^/:@]+)"
    r"(?:/(?P<version>latest|[1-9][0-9]*)|@(?P<alias>[A-Za-z0-9_.-]+))"
)
# What a run logged, and a model that MLflow logged by itself; registered versions come of both.
_LOGGED = re.compile(rf"runs:/(?P<run>[0-9a-f]+)/.+|{LOGGED_MODEL.pattern}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """A version in the registry, by number: what an alias or ``latest`` meant when it was resolved.

    Attributes
    ----------
    name, version
        As in Triton and its repository; so is the version in MLflow.
    registered_as
        The model's name in MLflow; empty if it is the same.
    model_id
        Of the model that was logged, ``m-...``; None if the version is of none.
    run_id
        The run that logged it; None if it was logged outside one.
    digest
        `export.digests.of_source` at registration; None if something else registered it.
    manifest_digest
        SHA-256 of the manifest that was last recorded for it when it was resolved; None if none.
    description, tags
        As people wrote them in MLflow, without the tags of this project.
    """

    name: str
    version: int
    run_id: str | None
    digest: str | None
    manifest_digest: str | None
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    registered_as: str = ""
    model_id: str | None = None

    @property
    def in_mlflow(self) -> str:
        """The model's name in MLflow."""
        return self.registered_as or self.name

    @property
    def uri(self) -> str:
        """MLflow's URI of exactly this version."""
        return f"models:/{self.in_mlflow}/{self.version}"


def register(model: "keras.Model", card: ModelCard) -> int:
    """Log a model and its card to a new run, and register it under the card's name.

    Registering the same model with the same card again answers the version that it already is. A
    model with code of its own (a subclassed one, a Lambda or a custom layer) is logged as what it
    computes, a SavedModel, since nobody else has that code.

    Parameters
    ----------
    model
        Takes float32 (N, H, W, C), as the card's input says in NCHW; several inputs take its
        channels in their order.
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
    name = card.name
    card = msgspec.structs.replace(
        card, name=served_name(name), version=None, digests={}, further_outputs={}
    )
    kept = None if lowering.needs_its_code(model) else digests.of_source(model, card)
    with _mlflow(f"register {name!r}") as client:
        _check_alone(client, name)
        for known in _versions(client, name):
            if kept is not None and known.digest == kept:
                return known.version
        with mlflow.start_run(experiment_id=_experiment(client, name)):
            mlflow.log_params(_params(card))
            mlflow.log_metrics(card.training_metrics)
            mlflow.log_text(card.to_json().decode(), CARD_FILE)
            if kept is not None:
                logged = logged_models.log_model(model, card)
            else:
                logged = logged_models.log_computation(model, card)
                kept = digests.of_source(load_uri(logged.model_uri), card)
            # The tag comes with the version: no version is ever without it.
            with unheard():
                registered = mlflow.register_model(logged.model_uri, name, tags={DIGEST_TAG: kept})
    return int(registered.version)


def resolve(uri: str) -> RegisteredVersion:
    """The version that a URI means now.

    Parameters
    ----------
    uri
        ``models:/NAME/7``, ``models:/NAME/latest`` (the highest number) or ``models:/NAME@alias``;
        the ``models:/`` may be left out. ``runs:/RUN/model`` and ``models:/m-ID`` are the version
        that was registered of what was logged.

    Raises
    ------
    UnknownVersionError
        If it is none of these, or there is no such version.
    RegistryError
        If MLflow cannot be reached.
    """
    if logged := _LOGGED.fullmatch(uri):
        return _registered_of(uri, **logged.groupdict())
    if not (match := _URI.fullmatch(uri)):
        raise UnknownVersionError(
            f"{uri!r} names no registered model: write models:/NAME/7, models:/NAME/latest or"
            " models:/NAME@alias"
        )
    name, version, alias = match.group("name", "version", "alias")
    with _mlflow(f"resolve {uri!r}") as client:
        known = {one.version: one for one in _versions(client, name)}
        if not known:
            raise UnknownVersionError(_no_such_model(client, name))
        if alias:
            names = aliases(name)
            if alias not in names:
                have = ", ".join(f"@{one}" for one in sorted(names)) or "no alias"
                raise UnknownVersionError(f"{name!r} has no alias @{alias}; it has {have}")
            version = str(names[alias])
        number = max(known) if version == "latest" else int(version)
        if number not in known:
            have = ", ".join(map(str, sorted(known)))
            raise UnknownVersionError(
                f"MLflow at {mlflow.get_tracking_uri()} has no version {number} of {name!r};"
                f" it has {have}"
            )
        return known[number]


def _registered_of(uri: str, run: str | None, model: str | None) -> RegisteredVersion:
    """The last version that was registered of a run, or of a logged model."""
    with _mlflow(f"resolve {uri!r}") as client:
        if model is not None:
            try:
                run = client.get_logged_model(model).source_run_id
            except MlflowException as error:
                raise UnknownVersionError(f"MLflow has no {uri}: {error.message}") from error
        found = client.search_model_versions(f"run_id='{run}'") if run else []
        versions = [
            _registered(one)
            for one in found
            if one.status == "READY" and (model is None or one.source == uri)
        ]
    if not versions:
        raise UnknownVersionError(
            f"no version is registered of {uri}: astrotriton register {uri} --card card.toml"
        )
    return max(versions, key=lambda one: one.version)


def load_keras(registered: RegisteredVersion) -> "keras.Model":
    """The Keras model of a version, logged with the keras or the tensorflow flavour.

    A SavedModel, and a file that only Keras 2 reads, come as a Keras model of one layer, which runs
    it as it is.

    Raises
    ------
    RegistryError
        If it was logged with another flavour, or MLflow cannot be reached.
    LoadError
        If no Keras at hand reads it.
    """
    return load_uri(registered.uri)


def load_card(registered: RegisteredVersion) -> ModelCard:
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
        card = ModelCard.from_json(text)
    except CardError as error:
        raise RegistryError(f"{CARD_FILE} of {registered.uri}: {error}") from error
    if served_name(card.name) != registered.name:
        raise RegistryError(
            f"{CARD_FILE} of {registered.uri} is of another model, {card.name!r}: {remedy}"
        )
    return msgspec.structs.replace(card, name=registered.name, version=registered.version)


def record(registered: RegisteredVersion, card: ModelCard, manifest: Manifest) -> None:
    """Log a manifest, and the card that it is about, to the version's run; its figures as metrics.

    Raises
    ------
    RegistryError
        If MLflow cannot be reached or refuses.
    """
    with _mlflow(f"record the gates of {registered.uri}") as client:
        if registered.run_id is not None:
            client.log_text(registered.run_id, card.to_json().decode(), f"export/{CARD_FILE}")
            seconds = {f"{_SECONDS}{step}": value for step, value in manifest.seconds.items()}
            for name, value in (manifest.figures | seconds).items():
                client.log_metric(registered.run_id, name, value, model_id=registered.model_id)
    vouch(registered, manifest)


def vouch(registered: RegisteredVersion, manifest: Manifest) -> None:
    """Have MLflow know a manifest whose figures it has already.

    Raises
    ------
    RegistryError
        If MLflow cannot be reached or refuses.
    """
    content = manifest.to_json()
    with _mlflow(f"record the manifest of {registered.uri}") as client:
        if registered.run_id is not None:
            client.log_text(registered.run_id, content.decode(), f"export/{MANIFEST_FILE}")
        client.set_model_version_tag(
            registered.in_mlflow, str(registered.version), _MANIFEST_TAG, digests.of_bytes(content)
        )


def log_seconds(registered: RegisteredVersion, seconds: Mapping[str, float]) -> None:
    """Log how long the steps of a promotion took to the version's run, as `seconds_taken` reads it.

    Raises
    ------
    RegistryError
        If MLflow cannot be reached or refuses.
    """
    if registered.run_id is None:
        return
    with _mlflow(f"log how long {registered.uri} took") as client:
        for step, value in seconds.items():
            client.log_metric(registered.run_id, f"{_SECONDS}{step}", value)


def seconds_taken(name: str) -> dict[str, list[float]]:
    """How long each step took when the last versions of a model were promoted, the newest first.

    Returns
    -------
    dict
        Seconds, by the names of gates and of steps.

    Raises
    ------
    RegistryError
        If MLflow cannot be reached.
    """
    taken: dict[str, list[float]] = {}
    with _mlflow(f"read how long versions of {name!r} took") as client:
        newest = sorted(_versions(client, name), key=lambda one: -one.version)[:_LOOKED_AT]
        # A copy of a version has the run of the first.
        for run_id in dict.fromkeys(one.run_id for one in newest if one.run_id):
            for key, value in client.get_run(run_id).data.metrics.items():
                if key.startswith(_SECONDS):
                    taken.setdefault(key.removeprefix(_SECONDS), []).append(value)
    return taken


def tags(registered: RegisteredVersion) -> dict[str, str]:
    """The tags of a version.

    Raises
    ------
    UnknownVersionError
        If MLflow does not have it any more.
    RegistryError
        If MLflow cannot be reached.
    """
    with _mlflow(f"read the tags of {registered.uri}") as client:
        try:
            found = client.get_model_version(registered.in_mlflow, str(registered.version))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise UnknownVersionError(f"{registered.uri} was deleted in MLflow") from error
        return dict(found.tags)


def set_tags(registered: RegisteredVersion, wanted: Mapping[str, str | None]) -> None:
    """Set tags of a version, or take away those that are None.

    Raises
    ------
    RegistryError
        If MLflow cannot be reached or refuses.
    """
    version = str(registered.version)
    with _mlflow(f"tag {registered.uri}") as client:
        for tag, value in wanted.items():
            if value is None:
                client.delete_model_version_tag(registered.in_mlflow, version, tag)
            else:
                client.set_model_version_tag(registered.in_mlflow, version, tag, value)


def versions(name: str) -> list[RegisteredVersion]:
    """Every version of a model that is ready, ascending.

    Raises
    ------
    RegistryError
        If MLflow cannot be reached.
    """
    with _mlflow(f"list the versions of {name!r}") as client:
        return sorted(_versions(client, name), key=lambda one: one.version)


def aliases(name: str) -> dict[str, int]:
    """The version of each alias of a model; none for a model that isn't registered.

    Raises
    ------
    RegistryError
        If MLflow cannot be reached.
    """
    with _mlflow(f"read the aliases of {name!r}") as client:
        found = _model(client, name)
        return {} if found is None else {a: int(one) for a, one in found.aliases.items()}


def described(name: str) -> tuple[str, dict[str, str]]:
    """The description and the tags of a model, as people wrote them; empty if it has none.

    Raises
    ------
    RegistryError
        If MLflow cannot be reached.
    """
    with _mlflow(f"read the description of {name!r}") as client:
        found = _model(client, name)
        return ("", {}) if found is None else (found.description or "", _of_people(found.tags))


def move_aliases(name: str, wanted: Mapping[str, int]) -> dict[str, int]:
    """Move champion, challenger and previous champion to these versions, and take away the others.

    Returns
    -------
    dict
        Those of ``wanted`` whose version is not registered (any more), so that they are no alias.

    Raises
    ------
    RegistryError
        If MLflow cannot be reached or refuses.
    """
    with _mlflow(f"move the aliases of {name!r}") as client:
        known = _versions(client, name)
        registered = {one.version for one in known}
        now = aliases(name)
        name = known[0].in_mlflow if known else name
        for alias in (PREVIOUS, CHAMPION, CHALLENGER):
            version = wanted.get(alias)
            if version == now.get(alias):
                continue
            if version in registered:
                client.set_registered_model_alias(name, alias, str(version))
            elif alias in now:
                client.delete_registered_model_alias(name, alias)
        return {alias: one for alias, one in wanted.items() if one not in registered}


def load_uri(uri: str) -> "keras.Model":
    """The Keras model at a URI of MLflow, as `load_keras` loads a version's.

    Raises
    ------
    RegistryError
        If there is none, it was logged with another flavour, or MLflow cannot be reached.
    LoadError
        If no Keras at hand reads it.
    """
    with _mlflow(f"read {uri}"):
        flavors = get_model_info(uri).flavors
    flavor = flavors.get("keras") or flavors.get("tensorflow")
    if flavor is None:
        raise RegistryError(
            f"{uri} was logged with the flavours {sorted(flavors)}, not with keras or"
            " tensorflow: log it with mlflow.keras.log_model"
        )
    # Each imports TensorFlow.
    import mlflow.keras
    import mlflow.tensorflow

    with _mlflow(f"load {uri}"):
        # MLflow's own loaders bring the custom objects that were logged beside a model.
        try:
            if "keras" in flavors and not flavor.get("save_exported_model"):
                return mlflow.keras.load_model(uri, load_model_kwargs={"compile": False})
            if flavor.get("model_type") == "keras":
                return mlflow.tensorflow.load_model(uri, keras_model_kwargs={"compile": False})
        except MlflowException:
            raise
        except Exception as error:  # What Keras and TensorFlow raise has no common class.
            _log.debug("MLflow does not load %s: %s", uri, error)
        folder = Path(mlflow.artifacts.download_artifacts(uri))
    try:
        return keras_files.load(folder / (flavor.get("saved_model_dir") or flavor.get("data", "")))
    except LoadError as error:
        raise LoadError(f"cannot load {uri}: {error}") from error


def _no_such_model(client: MlflowClient, name: str) -> str:
    """That a model is not registered, with the names that were probably meant."""
    names = [one.name for one in all_models(client)]
    near = difflib.get_close_matches(name, names, n=3) or names[:3]
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "register one"
    return f"MLflow at {mlflow.get_tracking_uri()} has no version of {name!r}: {hint}"


def _versions(client: MlflowClient, name: str) -> list[RegisteredVersion]:
    if (model := _model(client, name)) is None:
        return []
    return [
        _registered(found)
        for found in client.search_model_versions(f"name={quoted(model.name)}")
        if found.status == "READY"
    ]


def _model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """A model by its name in MLflow, or by the name under which it is served."""
    exact = client.search_registered_models(f"name={quoted(name)}")
    if exact:
        return exact[0]
    found = [one for one in all_models(client) if served_name(one.name) == served_name(name)]
    if len(found) > 1:
        names = " and ".join(repr(one.name) for one in found)
        raise RegistryError(f"{name!r} may be {names} in MLflow: rename one of them")
    return found[0] if found else None


def _check_alone(client: MlflowClient, name: str) -> None:
    """Refuse a model that would be served under the name of another one."""
    served = served_name(name)
    for one in all_models(client):
        if one.name != name and served_name(one.name) == served:
            raise RegistryError(
                f"{name!r} would be served as {served!r}, as {one.name!r} of MLflow is: give it"
                " another name"
            )


def _registered(found: ModelVersion) -> RegisteredVersion:
    name = served_name(found.name)
    logged = LOGGED_MODEL.fullmatch(found.source or "")
    return RegisteredVersion(
        name=name,
        registered_as=found.name if found.name != name else "",
        model_id=logged["model"] if logged else None,
        version=int(found.version),
        run_id=found.run_id or None,
        digest=found.tags.get(DIGEST_TAG),
        manifest_digest=found.tags.get(_MANIFEST_TAG),
        description=found.description or "",
        tags=_of_people(found.tags),
    )


def _of_people(tags: Mapping[str, str]) -> dict[str, str]:
    return {tag: value for tag, value in tags.items() if not tag.startswith(_OWN_TAGS)}


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


def _params(card: ModelCard) -> dict[str, object]:
    return {
        "trained_at": card.trained_at.isoformat(),
        "input_shape": card.input.shape,
        "output_shape": card.output.shape,
        **card.own_fields,
        "nms_radius": card.nms_radius,
        **{f"normalisation.{k}": v for k, v in msgspec.structs.asdict(card.normalisation).items()},
    }
