"""The sources of an answered exposure, with all that their confidence is a function of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from astrotriton.detection.arrays import Image, Values
from astrotriton.detection.confidence.features import features
from astrotriton.detection.image.exposure import Limits
from astrotriton.detection.scoring.inference import Inference
from astrotriton.detection.sources.centroids import DEFAULT_FWHM
from astrotriton.detection.sources.distinct import Sources, distinct_sources
from astrotriton.detection.sources.measurements import (
    Correlation,
    Measurements,
    filter_responses,
    measure,
    noise_correlation,
)
from astrotriton.detection.sources.psf import KnownPsf, find_psf
from astrotriton.detection.sources.psf_fluxes import Fluxes, psf_fluxes
from astrotriton.detection.sources.spots import Spots
from astrotriton.wire.detections import Candidate

# The noise of fluxes is taken so many FWHM away from sources of this SNR, at this many places.
_FREE, _BRIGHT, _LEAST_FREE = 2.0, 5.0, 100


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
    tiled: Inference, *, max_candidates: int = Limits().max_candidates
) -> MeasuredSources:
    """Join what the tiles had to say into distinct sources, and measure them.

    Parameters
    ----------
    tiled
        With every input answered.
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
    correlation, typical = _noise_of_fluxes(tiled, sources.spots, measured.snr, psf.psf.fwhm)
    fluxes = psf_fluxes(
        stamps[sources.spots.stamp],
        tiled.noise_stamps()[sources.spots.stamp],
        sources.spots.positions,
        sources.spots.local_noise,
        psf.psf,
        correlation,
    )
    return MeasuredSources(
        sources=sources,
        measurements=measured,
        candidates=candidates,
        features=features(
            sources.spots, measured, fwhm, edge_distance, one_number=tiled.one_number
        ),
        fluxes=fluxes,
        psf=psf,
        depth=5.0 * typical * correlation.scatter * psf.psf.scale / math.sqrt(psf.psf.power),
        edge_distance=edge_distance,
    )


def _noise_of_fluxes(
    tiled: Inference, spots: Spots, snr: Values, fwhm: float
) -> tuple[Correlation, float]:
    """How noise is correlated where no source is, and how large it is there, typically.

    The map of the noise may be off, and so are then the responses that the scatter is taken of.
    """
    local, places = tiled.local_noise(), tiled.noise_places()
    bright = spots.positions[np.abs(snr) > _BRIGHT]
    free = np.ones(len(places), bool)
    if len(bright) > 0:
        distance, _ = cKDTree(bright).query(places, distance_upper_bound=_FREE * fwhm)
        free = ~np.isfinite(distance)
    if np.count_nonzero(free) < _LEAST_FREE:  # a stamp of a source has hardly any such place
        free[:] = True
    if not free.any():
        return Correlation(1.0, math.nan), 1.0
    scale: Image = local[free, None, None].astype(np.float32)
    stamps: Image = np.divide(tiled.noise()[free], scale, dtype=np.float32)
    typical = float(np.median(local[free]))
    return noise_correlation(filter_responses(stamps, fwhm)), typical


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
