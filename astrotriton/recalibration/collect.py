"""The labels that a gateway keeps, or a table has, with the sources that they speak of."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from scipy.special import logit

from astrotriton.client import Client, FoundDetection
from astrotriton.detection.arrays import Values
from astrotriton.detection.confidence.model import ConfidenceModel
from astrotriton.label_tables import LabelTable, LabelTableError
from astrotriton.recalibration.sources import LabelledSources
from astrotriton.wire.detections import Label

Progress = Callable[[str], None]

_NEAR_PIXELS, _NEAR_DEGREES = 2.0, 1.0 / 3600.0
_SURE = 1e-12


@dataclass(slots=True)
class Collected:
    """Labels of a version's detections.

    Attributes
    ----------
    real
        By the id of a detection, whether it is real.
    runs
        By the id of a run, those of its detections that have a label.
    passed_over
        Labels that speak of no detection of the version, or of one that was not scored.
    """

    real: dict[UUID, bool] = field(default_factory=dict)
    runs: dict[UUID, list[UUID]] = field(default_factory=dict)
    passed_over: int = 0

    def add(self, found: FoundDetection | None, real: bool, version: int) -> None:
        """Take a label, if it speaks of a scored detection of the version."""
        if (
            found is None
            or found.confidence is None
            or found.outcome != "kept"
            or found.model.version != version
        ):
            self.passed_over += 1
        else:
            if found.id not in self.real:
                self.runs.setdefault(found.run_id, []).append(found.id)
            self.real[found.id] = real


def labels_of_gateway(client: Client, version: int) -> Collected:
    """What people said of a version's detections; *unsure* says nothing."""
    found = Collected()
    kinds: dict[Label, bool] = {"real": True, "artefact": False}
    for label, real in kinds.items():
        for one in client.detections(label=label, model_version=version, limit=1000):
            found.add(one, real, version)
    return found


def labels_of_table(client: Client, version: int, path: Path) -> Collected:
    """The labels of a table, matched with detections of a version.

    A row has ``label`` (or ``real``), and names a detection: by ``detection_id`` (or ``id``), or by
    its place, ``x`` and ``y`` (0-based pixels, 2 near) or ``ra`` and ``dec`` (degrees, 1 arcsec
    near), in an exposure (``exposure`` or ``exposure_id``) or a run (``run_id``).

    Raises
    ------
    LabelTableError
        If it cannot be read, or a column is missing.
    """
    table = LabelTable(path)
    found, known = Collected(), _Known(client, version)
    by_id = next((name for name in ("detection_id", "id") if table.has(name)), None)
    place = next((pair for pair in (("x", "y"), ("ra", "dec")) if table.has(*pair)), None)
    where = table.column("run_id", "exposure", "exposure_id") if by_id is None else ""
    if by_id is None and place is None:
        raise LabelTableError(
            f"{path}: has no column detection_id, and not x and y or ra and dec either"
        )
    for row in table.rows:
        real = table.real(row)
        if real is None:
            continue
        if by_id is not None:
            found.add(known.detection(str(row[by_id])), real, version)
            continue
        assert place is not None
        query = {"run_id" if where == "run_id" else "exposure": str(row[where])}
        found.add(known.nearest(query, place, [float(row[one]) for one in place]), real, version)
    return found


class _Known:
    """Detections as a gateway has them, each exposure's asked for once."""

    def __init__(self, client: Client, version: int) -> None:
        self._client = client
        self._version = version
        self._of: dict[str, list[FoundDetection]] = {}

    def detection(self, named: str) -> FoundDetection | None:
        from astrotriton.client import ProblemError

        try:
            return self._client.detection(named)
        except ProblemError as error:
            if error.status in (400, 404, 422):
                return None
            raise

    def nearest(
        self, query: dict[str, Any], place: tuple[str, str], wanted: list[float]
    ) -> FoundDetection | None:
        key = repr(query)
        if key not in self._of:
            found = self._client.detections(**query, model_version=self._version, limit=1000)
            self._of[key] = _newest_run(found)
        there = [one for one in self._of[key] if getattr(one, place[0]) is not None]
        if not there:
            return None
        at = np.array([[getattr(one, name) for name in place] for one in there], np.float64)
        apart = at - np.array(wanted)
        if place == ("ra", "dec"):
            apart[:, 0] = (apart[:, 0] + 180.0) % 360.0 - 180.0
            apart[:, 0] *= np.cos(np.radians(wanted[1]))
        distance = np.hypot(*apart.T)
        best = int(np.argmin(distance))
        near = _NEAR_PIXELS if place == ("x", "y") else _NEAR_DEGREES
        return there[best] if distance[best] <= near else None


def _newest_run(found: Iterable[FoundDetection]) -> list[FoundDetection]:
    """Of detections, newest first, those of the newest run that were scored."""
    kept: list[FoundDetection] = []
    for one in found:
        if kept and one.run_id != kept[0].run_id:
            break
        if one.outcome == "kept" and one.confidence is not None:
            kept.append(one)
    return kept


def sources_of(
    client: Client, collected: Collected, model: ConfidenceModel, *, tta: bool, progress: Progress
) -> LabelledSources | None:
    """What is known of labelled sources, and of those scored beside them; None if there are none.

    Parameters
    ----------
    model
        Has the features that are wanted.
    tta
        Of runs with test-time augmentation, or of the others.
    """
    rows, real, exposure, answered = [], [], [], []
    population: list[Values] = []
    numbers: dict[str, int] = {}
    for place, (run_id, labelled) in enumerate(collected.runs.items(), start=1):
        run = client.run(run_id).result
        if run is None or run.tta != tta:
            continue
        progress(f"exposure {place} of {len(collected.runs)}: {len(labelled)} labels")
        kept = {one.id: one.confidence for one in run.detections if one.outcome == "kept"}
        population.append(_logits([one for one in kept.values() if one is not None]))
        # The same exposure scored again is not another one.
        number = numbers.setdefault(run.exposure.digest, len(numbers))
        for detection_id in labelled:
            derivation = client.explain(detection_id).derivation
            confidence = kept.get(detection_id)
            if derivation is None or confidence is None:
                collected.passed_over += 1
                continue
            values = {term.name: term.value for term in derivation.terms}
            row = [values.get(name) for name in model.names]
            rows.append([np.nan if value is None else value for value in row])
            real.append(collected.real[detection_id])
            exposure.append(number)
            answered.append(confidence)
    if not rows:
        return None
    return LabelledSources(
        table=np.array(rows, np.float64),
        real=np.array(real, bool),
        exposure=np.array(exposure, np.intp),
        answered=_logits(answered),
        population=np.concatenate(population),
    )


def _logits(confidences: list[float]) -> Values:
    return np.asarray(logit(np.clip(np.array(confidences, np.float64), _SURE, 1.0 - _SURE)))
