"""From judged sources to the detections that the caller gets."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from detection.calibration import entropy
from detection.measured import Measured
from detection.quality import DEFAULT_FWHM
from detection.spots import Values
from detection.types import Detection
from detection.work import Work

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
    """

    confidence: Values
    low: Values
    high: Values
    unlike: NDArray[np.bool_]


def build_detections(
    work: Work,
    measured: Measured,
    judged: Judged,
    order: NDArray[np.intp],
    threshold: float,
) -> list[Detection]:
    """The sources in ``order``, and after them the candidates that were merged into one of them."""
    positions = measured.sources.spots.positions
    ra, dec = work.exposure.sky(positions[:, 0], positions[:, 1])
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    flags = _flags(work, measured, judged)
    doubt = entropy(judged.confidence)
    kept = [
        _detection(work, measured, judged, int(i), (ra[i], dec[i]), threshold, doubt[i], flags[i])
        for i in order
    ]
    return kept + _merged(work, measured, place)


def build_features(
    measured: Measured, judged: Judged, order: NDArray[np.intp], detections: int
) -> list[dict[str, float] | None]:
    """The features of the sources in ``order``; None for what has none, ``detections`` in all."""
    table = np.stack(list(measured.features.values()), axis=1)
    scored: list[dict[str, float] | None] = [
        {
            name: float(value)
            for name, value in zip(measured.features, table[i], strict=True)
            if np.isfinite(value)
        }
        if np.isfinite(judged.confidence[i])
        else None
        for i in order
    ]
    return scored + [None] * (detections - len(scored))


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _detection(
    work: Work,
    measured: Measured,
    judged: Judged,
    i: int,
    sky: tuple[float, float],
    threshold: float,
    doubt: float,
    flags: tuple[str, ...],
) -> Detection:
    spots, values = measured.sources.spots, measured.measurements
    candidate = measured.sources.candidate[i]
    confidence = judged.confidence[i]
    scored = bool(np.isfinite(confidence))
    noise = work.normalised.noise
    return Detection(
        candidate_id=measured.candidates[candidate].id if candidate >= 0 else None,
        x=float(spots.positions[i, 0]),
        y=float(spots.positions[i, 1]),
        ra=_known(sky[0]),
        dec=_known(sky[1]),
        probability=_known(spots.probability[i]),
        probability_mean=_known(spots.probability_mean[i]),
        confidence=_known(confidence),
        confidence_low=_known(judged.low[i]),
        confidence_high=_known(judged.high[i]),
        entropy=_known(doubt),
        augmentation=_known(spots.spread[i]) if work.views > 1 else None,
        is_real=scored and bool(confidence >= threshold),
        snr=_known(values.snr[i]),
        snr_err=_known(values.snr_err[i]),
        flux=_known(values.flux[i] * noise),
        flux_err=_known(values.flux_err[i] * noise),
        fwhm=_known(values.fwhm[i]),
        elongation=_known(values.elongation[i]),
        psf_match=_known(values.psf_match[i]),
        sharpness=_known(values.sharpness[i]),
        negative_ratio=_known(values.negative_ratio[i]),
        trail=_known(values.trail[i]),
        edge_distance=float(measured.edge_distance[i]),
        sep_flags=int(spots.sep_flags[i]),
        polarity=-1 if values.amplitude[i] < 0 else 1,
        outcome="kept" if scored else "unscored",
        flags=flags,
    )


def _flags(work: Work, measured: Measured, judged: Judged) -> list[tuple[str, ...]]:
    """The flags of every source, sorted."""
    spots, values = measured.sources.spots, measured.measurements
    scored = np.isfinite(judged.confidence)
    fwhm = measured.seeing or DEFAULT_FWHM
    neighbour = np.full(len(spots), np.inf)
    if len(spots) > 1:
        neighbour = np.asarray(KDTree(spots.positions).query(spots.positions, k=2)[0])[:, 1]
    raised = {
        "no_candidate": measured.sources.candidate < 0,
        "masked": ~scored,
        "masked_near": scored & (values.masked_fraction > 0.0),
        "edge": measured.edge_distance < fwhm,
        "saturated": spots.saturated,
        "blended": neighbour < _BLENDED * fwhm,
        "dipole": values.negative_ratio > _DIPOLE,
        "trail": values.trail > _TRAIL,
        "negative": values.amplitude < 0.0,
        "out_of_distribution": scored & judged.unlike,
        "uncalibrated": np.full(len(spots), work.card.confidence_for(work.views) is None),
    }
    names = sorted(raised)
    table = np.stack([raised[name] for name in names], axis=1)
    own = sorted(work.exposure.flags)
    return [
        tuple(sorted([name for name, on in zip(names, row, strict=True) if on] + own))
        for row in table
    ]


def _merged(work: Work, measured: Measured, place: NDArray[np.intp]) -> list[Detection]:
    """The candidates that another one of the same source stands for."""
    sources = measured.sources
    merged = [
        (candidate, int(place[owner]))
        for i, (candidate, owner) in enumerate(zip(measured.candidates, sources.owner, strict=True))
        if sources.candidate[owner] != i
    ]
    positions = np.array([(c.x, c.y) for c, _ in merged], dtype=np.float64).reshape(-1, 2)
    sky = work.exposure.sky(positions[:, 0], positions[:, 1])
    return [
        Detection(
            candidate_id=candidate.id,
            x=candidate.x,
            y=candidate.y,
            ra=_known(ra),
            dec=_known(dec),
            outcome="merged",
            merged_into=into,
            flags=tuple(sorted(work.exposure.flags)),
        )
        for (candidate, into), (ra, dec) in zip(merged, sky.T, strict=True)
    ]
