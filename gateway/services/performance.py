"""How a version does: what was measured, added up over all gateways and Tritons."""

from datetime import UTC, datetime, timedelta

import numpy as np

from astrotriton.detection.errors import InputError
from astrotriton.detection.quality.drift import miscalibration
from astrotriton.detection.quality.evaluation import expected_calibration_error
from astrotriton.gateway.observability.sketches import CONFIDENCE_BINS, Sketch
from astrotriton.gateway.services.catalogue import CatalogueService
from astrotriton.gateway.services.recorder import Recorder
from astrotriton.gateway.storage.database import Database
from astrotriton.gateway.storage.drift import last_check
from astrotriton.gateway.storage.performance import (
    confidences_of_labelled,
    difference,
    find_counted,
    find_measured,
    find_series,
)
from astrotriton.gateway.storage.validations import last_validations
from astrotriton.wire.drift import DriftSummary
from astrotriton.wire.fields import Window
from astrotriton.wire.models import VersionRef
from astrotriton.wire.performance import (
    Bins,
    Distribution,
    Figure,
    LabelFigures,
    Performance,
    Point,
)
from astrotriton.wire.validation import ValidationSummary
from astrotriton.wire.windows import length_of

_GATEWAYS = "gateways"
_TRITON = "Triton's statistics"
_PARTS = ("request", "wait", "prepare", "infer", "finish", "store")
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
_IN_TRITON = ("queue", "compute_input", "compute_infer", "compute_output")
_MEMORY = ("host_memory_used", "gpu_memory_used", "gpu_memory_total", "pinned_memory_used")
_POINTS = 60
_TREND = 20
_LEAST_LABELS = 30
_MISCALIBRATED = 3.0


def read_window(text: str, until: datetime | None = None) -> Window:
    """The window that ends now, or at a given time.

    Parameters
    ----------
    text
        As `length_of` takes it.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        length = length_of(text)
    except ValueError as error:
        raise InputError("bad-window", "window", str(error)) from error
    until = until or datetime.now(UTC)
    return Window(since=until - length, until=until, seconds=length.total_seconds())


class PerformanceService:
    """Answers how a version does.

    Parameters
    ----------
    database, catalogue, recorder
        Where figures are, which versions there are, and what this gateway has not stored yet.
    """

    def __init__(self, database: Database, catalogue: CatalogueService, recorder: Recorder) -> None:
        self._database = database
        self._catalogue = catalogue
        self._recorder = recorder

    async def get(self, model_id: str, text: str) -> Performance:
        """How a version has done of late.

        Raises
        ------
        NotFoundError
            If there is no such version.
        InputError
            If the window is none.
        """
        window = read_window(text)
        info = await self._catalogue.get(model_id)
        await self._recorder.flush()
        await self._recorder.read_triton()
        # Minutes are stored whole, so the one that has begun counts too.
        since = window.since.replace(second=0, microsecond=0)
        until = window.until.replace(second=0, microsecond=0) + timedelta(minutes=1)
        place = (info.name, info.version, since, until)
        step = timedelta(seconds=max(60.0, 60.0 * -(-window.seconds // 60.0 // _POINTS)))
        async with self._database.transaction() as connection:
            measured = await find_measured(connection, *place)
            series = await find_series(connection, *place, step)
            counted = difference(await find_counted(connection, *place))
            labelled = await confidences_of_labelled(connection, *place)
            validations = await last_validations(connection, info.name, info.version, _TREND)
            drift = await last_check(connection, info.name, info.version)
        runs = measured.get("request", Sketch()).count
        return Performance(
            model=VersionRef(name=info.name, version=info.version),
            window=window,
            latency={
                part: _distribution(measured.get(part, Sketch()), "s", window) for part in _PARTS
            },
            triton=_in_triton(counted, window),
            throughput=_throughput(measured, runs, window),
            batches=_batches(counted, window),
            errors=_errors(measured, runs, window),
            memory=self._memory(),
            confidence=_confidences(measured.get("confidence", Sketch()), window),
            validation=next(iter(validations), None),
            trend=validations[1:],
            labels=_labels(labelled, validations, window),
            drift=drift or _never_checked(),
            series=[
                _point(since + i * step, step, series.get(since + i * step, {}))
                for i in range(-(-(until - since) // step))
            ],
        )

    def _memory(self) -> dict[str, Figure]:
        now = datetime.now(UTC)
        window = Window(since=now, until=now, seconds=0.0)
        servers = self._recorder.memory
        found = {}
        for kind in _MEMORY:
            values = [memory[kind] for memory in servers.values() if kind in memory]
            reason = None
            if not values:
                reason = self._recorder.no_memory if not servers else "Triton does not publish it"
            found[kind] = Figure(
                value=sum(values) if values else None,
                unit="bytes",
                count=len(values),
                window=window,
                source="Triton's metrics: the machine's, not the process's alone",
                reason=reason,
            )
        return found


def _distribution(sketch: Sketch, unit: str, window: Window) -> Distribution:
    found = {name: sketch.quantile(share) for name, share in _QUANTILES.items()}
    missing = [name for name, value in found.items() if value is None]
    return Distribution(
        unit=unit,
        count=sketch.count,
        mean=sketch.mean,
        **found,
        window=window,
        source=_GATEWAYS,
        reason=f"{sketch.count} runs are too few for {', '.join(missing)}" if missing else None,
    )


def _in_triton(counted: dict[str, int], window: Window) -> dict[str, Figure]:
    requests = counted.get("requests", 0)
    return {
        part: _figure(
            counted.get(f"{part}_ns", 0) / requests / 1e9 if requests else None,
            "s",
            requests,
            window,
            _TRITON,
            "Triton has answered no request in between two readings of its counts",
        )
        for part in _IN_TRITON
    }


def _throughput(measured: dict[str, Sketch], runs: int, window: Window) -> dict[str, Figure]:
    tiles = round(measured.get("tiles", Sketch()).total)
    return {
        "runs": _figure(runs / window.seconds, "1/s", runs, window, _GATEWAYS),
        "tiles": _figure(tiles / window.seconds, "1/s", tiles, window, _GATEWAYS),
    }


def _batches(counted: dict[str, int], window: Window) -> dict[str, Figure]:
    executions = counted.get("executions", 0)
    mean = _figure(
        counted.get("tiles", 0) / executions if executions else None,
        "tiles",
        executions,
        window,
        _TRITON,
        "Triton has executed nothing in between two readings of its counts",
    )
    sizes = {
        key.removeprefix("batch."): _figure(float(count), "executions", count, window, _TRITON)
        for key, count in counted.items()
        if key.startswith("batch.") and count
    }
    return {"mean": mean, **dict(sorted(sizes.items(), key=lambda one: int(one[0])))}


def _errors(measured: dict[str, Sketch], runs: int, window: Window) -> dict[str, Figure]:
    codes = {
        measure.removeprefix("error."): sketch.count
        for measure, sketch in measured.items()
        if measure.startswith("error.")
    }
    failed = sum(codes.values())
    total = runs + failed
    share = _figure(
        failed / total if total else None, "1", total, window, _GATEWAYS, "there were no runs"
    )
    return {
        "share": share,
        **{
            code: _figure(float(count), "runs", count, window, _GATEWAYS)
            for code, count in sorted(codes.items())
        },
    }


def _confidences(sketch: Sketch, window: Window) -> Bins:
    return Bins(
        edges=[i / CONFIDENCE_BINS for i in range(CONFIDENCE_BINS + 1)],
        counts=[sketch.counts[i] for i in range(CONFIDENCE_BINS)],
        count=sketch.count,
        window=window,
        source=_GATEWAYS,
        reason=None if sketch.count else "there were no detections",
    )


def _labels(
    labelled: list[tuple[float, bool, str]],
    validations: list[ValidationSummary],
    window: Window,
) -> LabelFigures:
    count = len(labelled)
    confidence = np.array([one[0] for one in labelled])
    said = np.array([one[1] for one in labelled], bool)
    real = np.array([one[2] == "real" for one in labelled], bool)
    enough = count >= _LEAST_LABELS
    few = f"{count} labelled detections are too few: {_LEAST_LABELS} are needed"
    surprise = miscalibration(confidence, real) if enough else np.nan
    known = bool(np.isfinite(surprise))
    off = known and abs(surprise) > _MISCALIBRATED
    worse = "less" if surprise > 0 else "more"
    return LabelFigures(
        agreement=_figure(
            float(np.mean(said == real)) if count else None,
            "1",
            count,
            window,
            "labels",
            "nobody has labelled a detection of this version",
        ),
        ece=_figure(
            expected_calibration_error(confidence, real) if enough else None,
            *("1", count, window, "labels", few),
        ),
        miscalibration=_figure(
            float(surprise) if known else None, "sigma", count, window, "labels", few
        ),
        recalibrate=off,
        reason=(
            f"the confidence is {worse} often right than it says, by {abs(surprise):.1f} sigma on"
            f" {count} labelled detections: fit it anew"
            if off
            else "the confidence holds on the labelled detections"
            if known
            else few
        ),
    )


def _point(time: datetime, step: timedelta, sketches: dict[str, Sketch]) -> Point:
    runs = sketches.get("request", Sketch())
    errors = sum(sketch.count for name, sketch in sketches.items() if name != "request")
    return Point(
        time=time,
        seconds=step.total_seconds(),
        runs=runs.count,
        errors=errors,
        p50=runs.quantile(0.5),
        p95=runs.quantile(0.95),
        p99=runs.quantile(0.99),
    )


def _never_checked() -> DriftSummary:
    return DriftSummary(
        id=None,
        status="never-checked",
        checked_at=None,
        window=None,
        exposures=0,
        drifted=[],
        reason="nobody has looked yet; POST to /models/{id}/drift does",
    )


def _figure(
    value: float | None,
    unit: str,
    count: int,
    window: Window,
    source: str,
    reason: str | None = None,
) -> Figure:
    return Figure(
        value=value,
        unit=unit,
        count=count,
        window=window,
        source=source,
        reason=reason if value is None else None,
    )
