"""Fluxes of point sources, by a fit of the PSF to counts in the noise of each pixel."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Image, Positions, Stamps, Values
from astrotriton.detection.compiled import compiled
from astrotriton.detection.sources.measurements import Correlation
from astrotriton.detection.sources.psf import Psf, climb, nearest, project

_CHUNK = 2048  # stamps worked on at once
# A source is moved to where the PSF fits best, by steps of its table, if it has the second SNR
# there, and the first one where it was. Its flux is then too large by 1 / SNR^2, relatively, of the
# two coordinates that are fitted with it (Portillo, Speagle & Finkbeiner 2020, AJ 159, 165).
_LEAST_TRIED, _LEAST_SNR = 2.0, 4.0


@dataclass(frozen=True, slots=True)
class Fluxes:
    """PSF fluxes, float64 (N,), in units of the exposure's noise; NaN where no pixel is usable.

    Attributes
    ----------
    flux
        Of the whole PSF; of a source that fades, whose stamp is negated, what it has lost.
    error
        1 sigma: the noise of the pixels, correlated as it is in the exposure, and what the PSF's
        own error makes of the flux. The source's own photon noise is in it if a weight plane has
        it, since the gain is unknown.
    """

    flux: Values
    error: Values


def psf_fluxes(
    stamps: Stamps,
    noise: Stamps,
    positions: Positions,
    local: Values,
    psf: Psf,
    correlation: Correlation,
) -> Fluxes:
    """Fit the PSF to sources at their positions.

    Parameters
    ----------
    stamps
        float16 (N, 25, 25) in sigma of each pixel; NaN where unusable.
    noise
        float16 (N, 25, 25), that sigma in units of the exposure's noise.
    positions
        float64 (N, 2), of the sources, 0-based pixels.
    local
        float64 (N,), the scatter of the significance around the sources, 1 where the noise is as
        the map has it.
    psf
        Of unit flux.
    correlation
        Of the noise, as a matched filter of the PSF's width feels it.
    """
    parts = []
    for start in range(0, max(len(positions), 1), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        offsets = positions[chunk] - np.rint(positions[chunk])
        parts.append(
            _fit(
                stamps[chunk].astype(np.float32),
                noise[chunk].astype(np.float32),
                np.clip(offsets, -0.5, 0.5),
                psf.templates,
                local[chunk] * correlation.scatter,
            )
        )
    flux, error = np.concatenate(parts, axis=1)
    flux = flux * psf.scale
    error = error * psf.scale * local * correlation.scatter
    return Fluxes(flux, np.hypot(error, flux * psf.error))


@compiled
def _fit(
    stamps: Image, noise: Image, offsets: Positions, templates: Image, scatter: Values
) -> NDArray[np.float64]:
    """Flux and error of the profile that fits best in independent Gaussian noise, (2, N).

    Least squares of counts, all usable pixels alike: sum(p d) / sum(p^2), its error by the noise s
    of each pixel: the root of sum(p^2 s^2) over sum(p^2). Weights of 1 / s^2 would make less noise
    of a flux, but know the source's own photons where a weight plane does, and turn what the PSF is
    off by into an error of bright sources. A source that stands out is moved to where it fits best.
    """
    found = np.full((2, len(stamps)), np.nan)
    steps = round(np.sqrt(len(templates)))
    for k in range(len(stamps)):
        counts = stamps[k] * noise[k]
        row, column = nearest(offsets[k], steps)
        power, projection = project(counts, templates[row * steps + column])
        if not power > 0.0:
            continue
        spread = _spread(counts, noise[k], templates[row * steps + column])
        moved = False
        if abs(projection) > _LEAST_TRIED * scatter[k] * spread:
            row, column = climb(counts, templates, row, column)
            there, best = project(counts, templates[row * steps + column])
            noisy = _spread(counts, noise[k], templates[row * steps + column])
            moved = abs(best) > _LEAST_SNR * scatter[k] * noisy
            if moved:
                power, projection, spread = there, best, noisy
        found[0, k] = projection / power
        found[1, k] = spread / power
        if moved:
            # Of all places around a source, the one chosen is where noise adds most to it.
            found[0, k] *= 1.0 - (scatter[k] * spread / projection) ** 2
    return found


@compiled
def _spread(counts: Image, noise: Image, template: Image) -> float:
    """Standard deviation of the projection of noise on a template."""
    variance = 0.0
    for i in range(counts.shape[0]):
        for j in range(counts.shape[1]):
            sigma = np.float64(noise[i, j])
            if abs(counts[i, j]) < np.inf and sigma < np.inf:
                variance += (template[i, j] * sigma) ** 2
    return math.sqrt(variance)
