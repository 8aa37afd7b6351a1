"""The labelled fields that a version brings along in its MLflow run: it is judged on those."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import mlflow

from astrotriton.detection.quality.labelled import VALIDATION_FILE, ValidationSet
from astrotriton.export.errors import RegistryError
from astrotriton.export.mlflow_client import mlflow_client
from astrotriton.export.registry import RegisteredVersion


def keep_fields(
    registered: RegisteredVersion,
    fields: ValidationSet,
    *,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log fields to the run of a version.

    Parameters
    ----------
    registered
        The version.
    fields
        What the gates are to judge it on.
    metrics, tags
        What else the run is to say, such as what the version was made from.

    Raises
    ------
    RegistryError
        If the version was logged outside a run, or MLflow cannot be reached or refuses.
    """
    if registered.run_id is None:
        raise RegistryError(f"{registered.uri} belongs to no run, which could keep its fields")
    with (
        tempfile.TemporaryDirectory() as folder,
        mlflow_client(f"keep the labelled fields of {registered.uri}") as client,
    ):
        path = Path(folder, VALIDATION_FILE)
        path.write_bytes(fields.to_fits())
        client.log_artifact(registered.run_id, str(path))
        for name, value in (metrics or {}).items():
            client.log_metric(registered.run_id, name, value, model_id=registered.model_id)
        for name, text in (tags or {}).items():
            client.set_tag(registered.run_id, name, text)


def fields_of(registered: RegisteredVersion) -> ValidationSet | None:
    """The fields that `keep_fields` logged; None for a version that brings none.

    Raises
    ------
    RegistryError
        If they cannot be read, or MLflow cannot be reached.
    """
    if registered.run_id is None:
        return None
    with (
        tempfile.TemporaryDirectory() as folder,
        mlflow_client(f"read the labelled fields of {registered.uri}") as client,
    ):
        if VALIDATION_FILE not in {one.path for one in client.list_artifacts(registered.run_id)}:
            return None
        path = mlflow.artifacts.download_artifacts(
            run_id=registered.run_id, artifact_path=VALIDATION_FILE, dst_path=folder
        )
        content = Path(path).read_bytes()
    try:
        return ValidationSet.from_fits(content)
    except ValueError as error:
        raise RegistryError(f"the labelled fields of {registered.uri}: {error}") from error
