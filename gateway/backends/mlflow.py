"""Runs in MLflow of versions that are served; every call waits, so call it from a thread."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from astrotriton.gateway.errors import DependencyError
from astrotriton.mlflow_names import LOGGED_MODEL, all_models, quoted
from astrotriton.objects import is_object_location
from astrotriton.wire.models import served_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

    from astrotriton.wire.canary import CanaryStep
    from astrotriton.wire.validation import Curves, Validation

DEPENDENCY = "mlflow"

_VERSION_TAG = "astrotriton.served_version"
_VALIDATION_TAG = "astrotriton.validation_id"
# Of the version in the registry, so that its page leads to the runs.
_SERVING_RUN, _VALIDATION_RUN = "astrotriton.serving_run", "astrotriton.validation_run"
_VALIDATED = "astrotriton.validated"
_CANARY_TAG = "astrotriton.canary_id"
# What MLflow's pages show of a run as its description.
_NOTE_TAG = "mlflow.note.content"
# MLflow's own settings let a request hang for minutes, repeat it seven times, print, and report
# their use.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


class MlflowRuns:
    """Makes and fills runs.

    They lie in the experiment ``<model>-serving``: one run for each version that is served, one
    for each validation, and one for each canary that ends by itself. The metrics of the first two
    belong to the model that the version was registered of, too, and the version's tags name the
    runs; so its page in the registry leads to all of it.

    Parameters
    ----------
    uri
        Of the tracking server.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._made: MlflowClient | None = None
        self._logged_models: dict[str, str | None] = {}

    def served_run(self, name: str, version: int, params: Mapping[str, object]) -> str:
        """The run of a version that is served, made with its parameters if there is none.

        Raises
        ------
        DependencyError
            If MLflow is away, or refuses.
        """
        with _told():
            tag = f"{name}:{version}"
            found = self._run(name, _VERSION_TAG, tag, f"{tag} in service")
            self._log_params(found, params)
            return found

    def log_metrics(self, run_id: str, metrics: Sequence[tuple[str, float, datetime, int]]) -> None:
        """Add metrics, each with its time and its step.

        Raises
        ------
        DependencyError
            If MLflow is away, or refuses.
        """
        with _told():
            from mlflow.entities import Metric

            model_id = self._served_model(run_id)
            entities = [
                Metric(key, value, round(time.timestamp() * 1000), step, model_id=model_id)
                for key, value, time, step in metrics
            ]
            for start in range(0, len(entities), 1000):
                self._client.log_batch(run_id, metrics=entities[start : start + 1000])

    def log_validation(
        self, validation: "Validation", source: str, params: Mapping[str, object]
    ) -> str:
        """Log a validation: parameters, metrics, figures, and the data set as an input.

        Logging it again fills the same run.

        Raises
        ------
        DependencyError
            If MLflow is away, or refuses.
        """
        with _told():
            from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
            from mlflow.entities import RunStatus as Status

            ref = validation.model
            assert validation.finished_at is not None
            title = f"{ref.name}:{ref.version} validated"
            client = self._client
            run_id = self._run(ref.name, _VALIDATION_TAG, str(validation.id), title)
            time = round(validation.finished_at.timestamp() * 1000)
            named = {
                "model": f"{ref.name}:{ref.version}",
                "dataset": validation.dataset,
                "dataset_digest": validation.dataset_digest,
                "compare_with": validation.compare_with and validation.compare_with.version,
                "requested_by": validation.requested_by,
                **params,
            }
            found = {
                **validation.figures,
                **{f"compared_{name}": value for name, value in validation.compared.items()},
                "passed": float(bool(validation.passed)),
                **{f"gate_{gate.name}": float(gate.passed) for gate in validation.gates},
            }
            self._log_params(run_id, named)
            passed = "passed" if validation.passed else "refused"
            model_id = self._told_of(
                ref.name,
                ref.version,
                {
                    _VALIDATION_RUN: run_id,
                    _VALIDATED: f"{passed}, {validation.finished_at:%Y-%m-%d %H:%M} UTC",
                },
            )
            client.log_batch(
                run_id,
                metrics=[
                    Metric(name, value, time, 0, model_id=model_id)
                    for name, value in found.items()
                    if value is not None
                ],
            )
            data = Dataset(
                name=(validation.description or validation.dataset)[:500],
                digest=(validation.dataset_digest or "")[:36],
                source_type=source.partition("://")[0] if is_object_location(source) else "local",
                source=json.dumps({"uri": source}),
                profile=json.dumps({"fields": validation.fields}),
            )
            context = InputTag("mlflow.data.context", "validation")
            client.log_inputs(run_id, datasets=[DatasetInput(data, [context])])
            if validation.curves is not None:
                for file, figure in _figures(validation.curves, validation.compared_curves):
                    client.log_figure(run_id, figure, f"figures/{file}")
            client.set_terminated(run_id, Status.to_string(Status.FINISHED), time)
            return run_id

    def log_canary(
        self,
        canary_id: str,
        name: str,
        versions: tuple[int, int],
        number: int,
        step: "CanaryStep",
    ) -> str:
        """Log what happened to a canary: its metrics as a step, and a line in the description.

        Logging it again changes nothing.

        Parameters
        ----------
        versions
            Champion and challenger.
        number
            Of what happened, from 0.

        Raises
        ------
        DependencyError
            If MLflow is away, or refuses.
        """
        with _told():
            from mlflow.entities import Metric, RunStatus

            champion, challenger = versions
            client, time = self._client, round(step.at.timestamp() * 1000)
            run_id = self._run(name, _CANARY_TAG, canary_id, f"{name}:{challenger} canary")
            self._log_params(run_id, {"champion": champion, "challenger": challenger})
            found: dict[str, float | None] = {"fraction": step.fraction}
            for test in step.tests:
                found[f"{test.name}_mean"] = test.mean
                found[f"{test.name}_e_value"] = test.e_value
                found[f"{test.name}_count"] = float(test.count)
            client.log_batch(
                run_id,
                metrics=[
                    Metric(key, value, time, number)
                    for key, value in found.items()
                    if value is not None
                ],
            )
            line = f"{number}. {step.at:%Y-%m-%d %H:%M:%S} {step.what}: {step.reason}"
            lines = client.get_run(run_id).data.tags.get(_NOTE_TAG, "").splitlines()
            if line not in lines:
                client.set_tag(run_id, _NOTE_TAG, "\n".join([*lines, line])[:5000])
            if step.what in ("promoted", "sent-back", "ended"):
                ended = RunStatus.FINISHED if step.what == "promoted" else RunStatus.KILLED
                client.set_terminated(run_id, RunStatus.to_string(ended), time)
            return run_id

    def inputs(self, run_id: str) -> list[tuple[str, str]]:
        """Names and sources of the data sets that a run has as inputs.

        Raises
        ------
        DependencyError
            If MLflow is away, or there is no such run.
        """
        with _told():
            inputs = self._client.get_run(run_id).inputs
            found = [] if inputs is None else inputs.dataset_inputs
            return [(one.dataset.name, one.dataset.source) for one in found]

    @property
    def _client(self) -> "MlflowClient":
        if self._made is None:
            for name, value in _SETTINGS.items():
                os.environ.setdefault(name, value)
            from mlflow.tracking import MlflowClient

            self._made = MlflowClient(tracking_uri=self._uri)
        return self._made

    def _served_model(self, run_id: str) -> str | None:
        """The logged model of the version that a run is of; the version is tagged with the run."""
        if run_id not in self._logged_models:
            tag = self._client.get_run(run_id).data.tags.get(_VERSION_TAG, "")
            name, _, version = tag.rpartition(":")
            told = {_SERVING_RUN: run_id}
            self._logged_models[run_id] = self._told_of(name, int(version), told) if name else None
        return self._logged_models[run_id]

    def _told_of(self, name: str, version: int, tags: Mapping[str, str]) -> str | None:
        """Tag a version; the id of the model that it was registered of, if it is of one."""
        found = self._registered(name, version)
        if found is None:
            return None
        for tag, value in tags.items():
            self._client.set_model_version_tag(found.name, found.version, tag, value)
        logged = LOGGED_MODEL.fullmatch(found.source or "")
        return logged["model"] if logged else None

    def _registered(self, name: str, version: int) -> "ModelVersion | None":
        """A version in the registry, by the name under which its model is served."""
        client = self._client
        exact = client.search_registered_models(f"name={quoted(name)}")
        served = (one for one in all_models(client) if served_name(one.name) == name)
        model = next(iter(exact), None) or next(served, None)
        if model is None:
            return None
        wanted = f"name={quoted(model.name)}"
        found = (one for one in client.search_model_versions(wanted) if int(one.version) == version)
        return next(found, None)

    def _run(self, name: str, tag: str, value: str, title: str) -> str:
        client = self._client
        title_of_experiment = f"{name}-serving"
        experiment = client.get_experiment_by_name(title_of_experiment)
        experiment_id = (
            experiment.experiment_id
            if experiment is not None
            else client.create_experiment(title_of_experiment)
        )
        found = client.search_runs([experiment_id], f"tags.`{tag}` = '{value}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        run = client.create_run(experiment_id, tags={tag: value}, run_name=title)
        return str(run.info.run_id)

    def _log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        # A parameter cannot change: what the run has already is left as it is.
        known = self._client.get_run(run_id).data.params
        new = [Param(k, str(v)[:6000]) for k, v in params.items() if k not in known]
        if new:
            self._client.log_batch(run_id, params=new)


@contextmanager
def _told() -> Iterator[None]:
    """Tell MLflow's faults as a `DependencyError`."""
    try:
        yield
    except DependencyError:
        raise
    except Exception as error:  # it raises what its transport and its storage raise
        raise DependencyError(DEPENDENCY, f"{type(error).__name__}: {error}") from error


def _figures(curves: "Curves", compared: "Curves | None") -> "list[tuple[str, Figure]]":
    """Completeness, precision-recall and reliability, by file name."""
    from matplotlib.figure import Figure

    made = []
    for name, x, y, diagonal in (
        ("completeness", "true signal-to-noise ratio", "share found", False),
        ("precision_recall", "completeness", "purity", False),
        ("reliability", "confidence", "share that is real", True),
    ):
        figure = Figure(figsize=(6.4, 4.8), dpi=120)
        axes = figure.add_subplot()
        if diagonal:
            axes.plot([0, 1], [0, 1], "k--", linewidth=1)
        for label, found in (("validated", curves), ("compared with", compared)):
            if found is not None:
                curve = getattr(found, name)
                axes.plot(curve.x, curve.y, "o-" if curve.count else "-", label=label)
        axes.set(xlabel=x, ylabel=y, ylim=(0, 1.02))
        axes.legend()
        figure.tight_layout()
        made.append((f"{name}.png", figure))
    return made
