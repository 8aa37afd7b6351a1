"""The sources of an answered exposure, with all that their confidence is a function of."""

import math
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
    measure,
    noise_correlation,
)
from astrotriton.detection.sources.photometry import Fluxes, psf_fluxes
from astrotriton.detection.sources.psf import KnownPsf, find_psf
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
    fluxes
        PSF fluxes, in units of the exposure's noise.
    psf
        What they are fitted with, and who says so.
    depth
        PSF flux of a point source of SNR 5, in units of the exposure's noise.
    edge_distance
        float64 (N,), pixels.
    """

    sources: Sources
    measurements: Measurements
    candidates: Sequence[Candidate]
    features: dict[str, Values]
    fluxes: Fluxes
    psf: KnownPsf
    depth: float
    edge_distance: Values

    @property
    def seeing(self) -> float | None:
        """Full width at half maximum of point sources, pixels; None if it is assumed."""
        return self.psf.fwhm


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
    exposure = tiled.exposure
    psf = find_psf(sources.spots, stamps, correlation, sent=tiled.psf, said=exposure.seeing)
    fwhm = psf.fwhm
    if fwhm is not None:
        correlation = noise_correlation(filter_responses(tiled.noise(), fwhm))
    measured = measure(sources.spots, stamps, fwhm or DEFAULT_FWHM, correlation)
    edge_distance = _edge_distance(sources.spots, exposure.shape)
    # Where the map of the noise is off, so are the responses that its scatter is taken of.
    local = tiled.local_noise()
    places = tiled.noise() / local[:, None, None].astype(np.float32)
    correlation = noise_correlation(filter_responses(places, psf.psf.fwhm))
    fluxes = psf_fluxes(
        stamps[sources.spots.stamp],
        tiled.noise_stamps()[sources.spots.stamp],
        sources.spots.positions,
        sources.spots.local_noise,
        psf.psf,
        correlation,
    )
    typical = float(np.median(local)) * correlation.scatter if len(local) else 1.0
    return MeasuredSources(
        sources=sources,
        measurements=measured,
        candidates=candidates,
        features=features(sources.spots, measured, fwhm, edge_distance),
        fluxes=fluxes,
        psf=psf,
        depth=5.0 * typical * psf.psf.scale / math.sqrt(psf.psf.power),
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
