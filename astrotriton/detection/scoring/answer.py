"""From judged sources to the detections that the caller gets."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Values
from astrotriton.detection.confidence.calibration import entropy
from astrotriton.detection.scoring.inference import Inference
from astrotriton.detection.scoring.measured_sources import MeasuredSources
from astrotriton.detection.sources.centroids import DEFAULT_FWHM
from astrotriton.detection.sources.matching import isolation
from astrotriton.detection.sources.photometry import magnitudes
from astrotriton.wire.columns import nothing_known
from astrotriton.wire.detections import Detection
from astrotriton.wire.flags import Flag

_DIPOLE = 0.5
_TRAIL = 8.0
_BLENDED = 2.0  # in units of the FWHM


@dataclass(frozen=True, slots=True)
class Judged:
    """What the confidence model says of N sources.

    Attributes
    ----------
    confidence, low, high
        float64 (N,), probabilities; NaN for a source that could not be scored.
    unlike
        bool (N,), out of distribution.
    too_bright
        bool (N,), for its signal-to-noise ratio.
    seeing_outside
        Whether all of them are, for the width of point sources.
    """

    confidence: Values
    low: Values
    high: Values
    unlike: NDArray[np.bool_]
    too_bright: NDArray[np.bool_]
    seeing_outside: bool


def build_detections(
    tiled: Inference,
    measured: MeasuredSources,
    judged: Judged,
    order: NDArray[np.intp],
    threshold: float,
    exposure_flags: Collection[Flag],
) -> list[Detection]:
    """The sources in ``order``, the candidates merged into one, and those that lie nowhere."""
    spots, values = measured.sources.spots.take(order), measured.measurements
    noise = tiled.normalised.noise
    ra, dec = tiled.exposure.sky(spots.positions[:, 0], spots.positions[:, 1])
    confidence = judged.confidence[order]
    scored = np.isfinite(confidence)
    candidates = [
        measured.candidates[i].id if i >= 0 else None for i in measured.sources.candidate[order]
    ]
    own = tuple(sorted(exposure_flags))
    flags = _flags(tiled, measured, judged, own)
    # Sources that fade are measured upside down.
    sign = spots.polarity.astype(np.float64)
    # By column, since an exposure may have a hundred thousand of them.
    columns: dict[str, Iterable[Any]] = {
        "id": range(len(order)),
        "rank": range(1, len(order) + 1),
        "candidate_id": candidates,
        "x": spots.positions[:, 0].tolist(),
        "y": spots.positions[:, 1].tolist(),
        "ra": _known(ra),
        "dec": _known(dec),
        "probability": _known(spots.probability),
        "probability_mean": _known(spots.probability_mean),
        "confidence": _known(confidence),
        "confidence_low": _known(judged.low[order]),
        "confidence_high": _known(judged.high[order]),
        "entropy": _known(entropy(confidence)),
        "tta_std": _known(spots.spread) if tiled.views > 1 else [None] * len(order),
        "is_real": (scored & (confidence >= threshold)).tolist(),
        "snr": _known(sign * values.snr[order]),
        "snr_err": _known(values.snr_err[order]),
        "flux": _known(sign * measured.fluxes.flux[order] * noise),
        "flux_err": _known(measured.fluxes.error[order] * noise),
        "fwhm": _known(values.fwhm[order]),
        "elongation": _known(values.elongation[order]),
        "psf_match": _known(values.psf_match[order]),
        "sharpness": _known(values.sharpness[order]),
        "negative_ratio": _known(values.negative_ratio[order]),
        "trail": _known(values.trail[order]),
        "edge_distance": measured.edge_distance[order].tolist(),
        "sep_flags": spots.sep_flags.tolist(),
        "polarity": np.where(sign * values.amplitude[order] < 0, -1, 1).tolist(),
        "outcome": np.where(scored, "kept", "unscored").tolist(),
        "unscored_reason": [None if known else "masked" for known in scored.tolist()],
        "merged_into": [None] * len(order),
        "flags": [flags[i] for i in order],
    }
    columns |= magnitudes(
        columns["flux"], columns["flux_err"], tiled.exposure.observation.zero_point
    )
    kept = [
        Detection(**dict(zip(columns, row, strict=True)))
        for row in zip(*columns.values(), strict=True)
    ]
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    answered = kept + _merged(tiled, measured, place, own)
    return answered + _unplaced(tiled, len(answered), own)


def build_features(
    measured: MeasuredSources,
    judged: Judged,
    names: Sequence[str],
    order: NDArray[np.intp],
    detections: int,
) -> list[list[float] | None]:
    """The features of the sources in ``order``; None for what has none, ``detections`` in all."""
    table = np.stack([measured.features[name] for name in names], axis=1)[order]
    rows = np.where(np.isfinite(table), table, np.nan).tolist()
    scored = np.isfinite(judged.confidence[order]).tolist()
    found = [row if known else None for row, known in zip(rows, scored, strict=True)]
    return found + [None] * (detections - len(found))


def _known(values: Values) -> list[float | None]:
    return [
        value if finite else None
        for value, finite in zip(values.tolist(), np.isfinite(values).tolist(), strict=True)
    ]


def _flags(
    tiled: Inference,
    measured: MeasuredSources,
    judged: Judged,
    own: tuple[Flag, ...],
) -> list[tuple[Flag, ...]]:
    """The flags of every source, with the exposure's own, sorted."""
    spots, values = measured.sources.spots, measured.measurements
    scored = np.isfinite(judged.confidence)
    fwhm = measured.seeing or DEFAULT_FWHM
    raised: dict[Flag, NDArray[np.bool_]] = {
        Flag.NO_CANDIDATE: measured.sources.candidate < 0,
        Flag.MASKED: ~scored,
        Flag.MASKED_NEAR: scored & (values.masked_fraction > 0.0),
        Flag.EDGE: measured.edge_distance < fwhm,
        Flag.SATURATED: spots.saturated,
        Flag.BLENDED: isolation(spots.positions) < _BLENDED * fwhm,
        Flag.DIPOLE: values.negative_ratio > _DIPOLE,
        Flag.TRAIL: values.trail > _TRAIL,
        Flag.NEGATIVE: spots.polarity * values.amplitude < 0.0,
        Flag.OUT_OF_DISTRIBUTION: scored & judged.unlike,
        Flag.BRIGHTER_THAN_TRAINED: scored & judged.too_bright,
        Flag.UNCALIBRATED: np.full(len(spots), tiled.card.confidence_for(tiled.views) is None),
    }
    names = sorted(raised)
    table = np.stack([raised[name] for name in names], axis=1)
    return [
        tuple(sorted([*(name for name, on in zip(names, row, strict=True) if on), *own]))
        for row in table
    ]


def _merged(
    tiled: Inference,
    measured: MeasuredSources,
    place: NDArray[np.intp],
    own: tuple[Flag, ...],
) -> list[Detection]:
    """The candidates that another one of the same source stands for."""
    sources = measured.sources
    merged = [
        (candidate, int(place[owner]))
        for i, (candidate, owner) in enumerate(zip(measured.candidates, sources.owner, strict=True))
        if sources.candidate[owner] != i
    ]
    positions = np.array([(c.x, c.y) for c, _ in merged], dtype=np.float64).reshape(-1, 2)
    sky = tiled.exposure.sky(positions[:, 0], positions[:, 1])
    return [
        Detection(
            **nothing_known(Detection)
            | {
                "id": number,
                "rank": number + 1,
                "candidate_id": candidate.id,
                "x": candidate.x,
                "y": candidate.y,
                "ra": ra,
                "dec": dec,
                "is_real": False,
                "polarity": 1,
                "outcome": "merged",
                "merged_into": into,
                "flags": own,
            }
        )
        for number, ((candidate, into), ra, dec) in enumerate(
            zip(merged, *map(_known, sky), strict=True), start=len(place)
        )
    ]


def _unplaced(tiled: Inference, start: int, own: tuple[Flag, ...]) -> list[Detection]:
    """The candidates that lie nowhere on the exposure, each with what was said of its position."""
    found = []
    for number, one in enumerate(tiled.unplaced, start):
        asked = one.candidate
        position: dict[str, float] = {}
        if isfinite(asked.x) and isfinite(asked.y):
            position = {"x": asked.x, "y": asked.y}
        elif isfinite(asked.ra) and abs(asked.dec) <= 90.0:
            position = {"ra": asked.ra % 360.0, "dec": asked.dec}
        found.append(
            Detection(
                **nothing_known(Detection)
                | {
                    "id": number,
                    "rank": number + 1,
                    "candidate_id": asked.id,
                    "is_real": False,
                    "polarity": 1,
                    "outcome": "unscored",
                    "unscored_reason": one.reason,
                    "flags": own,
                }
                | position
            )
        )
    return found
