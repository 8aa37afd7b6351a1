"""The sources of an answered exposure, with all that their confidence is a function of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from astrotriton.detection.arrays import Values
from astrotriton.detection.confidence.features import features
from astrotriton.detection.image.exposure import Limits
from astrotriton.detection.scoring.tiled_inference import TiledInference
from astrotriton.detection.sources.centroids import DEFAULT_FWHM
from astrotriton.detection.sources.distinct import Sources, distinct_sources
from astrotriton.detection.sources.measurements import (
    Measurements,
    filter_responses,
    limiting_flux,
    measure,
    noise_correlation,
    seeing,
)
from astrotriton.detection.sources.spots import Spots
from astrotriton.wire.detections import Candidate


@dataclass(frozen=True, slots=True)
class MeasuredSources:
    """The sources of an exposure with all that their confidence is a function of.

    Attributes
    ----------
    sources, measurements
        What was found and what it looks like.
    candidates
        The caller's, or those that SEP found.
    features
        By name, float64 (N,).
    seeing
        Full width at half maximum of point sources, pixels; None if it could not be told.
    depth
        Flux of a point source of SNR 5, in sigma of a pixel.
    edge_distance
        float64 (N,), pixels.
    """

    sources: Sources
    measurements: Measurements
    candidates: Sequence[Candidate]
    features: dict[str, Values]
    seeing: float | None
    depth: float
    edge_distance: Values


def measure_sources(
    tiled: TiledInference, *, max_candidates: int = Limits().max_candidates
) -> MeasuredSources:
    """Join what the tiles had to say into distinct sources, and measure them.

    Parameters
    ----------
    work
        With every tile answered.
    max_candidates
        Most candidates that SEP may contribute, the brightest first.
    """
    spots, stamps = tiled.spots(), tiled.stamps()
    candidates = tiled.candidates
    if candidates is None:
        spots, candidates = _extracted(spots, max_candidates)
    sources = distinct_sources(spots, len(candidates), tiled.card.nms_radius)
    correlation = noise_correlation(tiled.noise_responses())
    fwhm = seeing(sources.spots, stamps, correlation)
    if fwhm is not None:
        correlation = noise_correlation(filter_responses(tiled.noise(), fwhm))
    measured = measure(sources.spots, stamps, fwhm or DEFAULT_FWHM, correlation)
    edge_distance = _edge_distance(sources.spots, tiled.exposure.shape)
    return MeasuredSources(
        sources=sources,
        measurements=measured,
        candidates=candidates,
        features=features(sources.spots, measured, fwhm, edge_distance),
        seeing=fwhm,
        depth=limiting_flux(fwhm or DEFAULT_FWHM, correlation),
        edge_distance=edge_distance,
    )


def _extracted(spots: Spots, most: int) -> tuple[Spots, list[Candidate]]:
    """Number the sources that SEP found in the tiles, the brightest first."""
    peaks = spots.take(spots.candidate < 0)
    found = spots.take(spots.candidate >= 0)
    found = found.take(np.argsort(-found.brightness, kind="stable")[:most])
    candidates = [
        Candidate(id=f"sep-{rank}", x=float(x), y=float(y))
        for rank, (x, y) in enumerate(found.positions, start=1)
    ]
    numbered = replace(found, candidate=np.arange(len(found)))
    return Spots.join([peaks, numbered]), candidates


def _edge_distance(spots: Spots, shape: tuple[int, int]) -> Values:
    x, y = spots.positions[:, 0], spots.positions[:, 1]
    borders = np.stack([x + 0.5, y + 0.5, shape[1] - 0.5 - x, shape[0] - 0.5 - y])
    return np.asarray(borders.min(axis=0))
