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
# A source of this SNR is moved to where the PSF fits best, by steps of the PSF's table. Its flux is
# then too large by 1 / SNR^2, relatively, of the two coordinates that are fitted with it (Portillo,
# Speagle & Finkbeiner 2020, AJ 159, 165).
_LEAST_SNR = 4.0


@dataclass(frozen=True, slots=True)
class Fluxes:
    """PSF fluxes, float64 (N,), in units of the exposure's noise; NaN where no pixel is usable.

    Attributes
    ----------
    flux
        Of the whole PSF, negative for a fading source.
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

    Least squares with a weight of 1 / sigma^2 a pixel: sum(p d / s^2) / sum(p^2 / s^2), where the
    counts d are the significance times s. A source that stands out is moved to where it fits best.
    """
    found = np.full((2, len(stamps)), np.nan)
    steps = round(np.sqrt(len(templates)))
    for k in range(len(stamps)):
        row, column = nearest(offsets[k], steps)
        power, projection = project(stamps[k], noise[k], templates[row * steps + column])
        if not power > 0.0:
            continue
        moved = abs(projection) > _LEAST_SNR * scatter[k] * math.sqrt(power)
        if moved:
            row, column = climb(stamps[k], noise[k], templates, row, column)
            power, projection = project(stamps[k], noise[k], templates[row * steps + column])
        found[0, k] = projection / power
        found[1, k] = 1.0 / math.sqrt(power)
        if moved:
            # Of all places around a source, the one chosen is where noise adds most to it.
            found[0, k] *= 1.0 - scatter[k] ** 2 * power / projection**2
    return found
