"""A version with the network of another one, and a confidence that was fitted anew."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from astrotriton.detection.confidence.model import ConfidenceModel
from astrotriton.export import own_fields, registry
from astrotriton.export.errors import RegistryError
from astrotriton.export.mlflow_client import mlflow_client
from astrotriton.export.registry import RegisteredVersion

#: Tag of a version: the one whose network it has.
RECALIBRATED_FROM = "astrotriton.recalibrated_from"
#: What its confidence was fitted to, in its run.
FIGURES_FILE = "recalibrated.json"


def register_recalibrated(
    before: RegisteredVersion,
    confidences: Mapping[str, ConfidenceModel],
    figures: Mapping[str, Any],
    on_progress: Callable[[str], None],
) -> int:
    """Register a version's network with other confidences, and say where it is from.

    Parameters
    ----------
    before
        The version; labelled fields that it brings come along.
    confidences
        By the card's field: ``confidence`` or ``confidence_tta``.
    figures
        What they were fitted to.
    on_progress
        Told what comes next.

    Returns
    -------
    int
        MLflow's version number.

    Raises
    ------
    ExportError
        If MLflow cannot be reached or refuses, or the network cannot be loaded.
    """
    on_progress(f"loading {before.uri}")
    network = registry.load_keras(before)
    card = msgspec.structs.replace(
        registry.load_card(before), version=None, digests={}, **confidences
    )
    on_progress(f"registering {card.name}")
    version = registry.register(network, card)
    after = registry.resolve(f"models:/{before.in_mlflow}/{version}")
    if after.run_id is None:
        raise RegistryError(f"{after.uri} belongs to no run, which could say where it is from")
    with mlflow_client(f"say where {after.uri} is from") as client:
        client.set_model_version_tag(
            after.in_mlflow, str(version), RECALIBRATED_FROM, str(before.version)
        )
        client.log_dict(after.run_id, {"from": before.uri, **figures}, FIGURES_FILE)
    if (fields := own_fields.fields_of(before)) is not None:
        own_fields.keep_fields(after, fields)
    return version
