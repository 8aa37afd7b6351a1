"""Measurements of sources on their stamps: how strong, how sharp, how much like a PSF."""

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage

from detection.background import Image, Mask
from detection.peaks import Positions
from detection.spots import STAMP_RADIUS, Spots, Values

DEFAULT_FWHM = 4.0
PER_FWHM = 2.3548200450309493  # FWHM of a Gaussian in units of its sigma

_CHUNK = 2048  # stamps worked on at once
_WINDOW_SIGMA = 3.0  # of the Gaussian weight of the moments, pixels
_POINT_SOURCE, _MIN_SEEING_SNR, _MIN_SEEING_STARS = 0.9, 8.0, 3
_LARGEST_STEP = 2.0  # that a centroid may take, pixels
_TRAIL_ANGLES = 12
# Standard error of a normal sample's scaled median absolute deviation, times the root of its size
# (Rousseeuw & Croux 1993: its efficiency is 36.7 %).
_MAD_ERROR = 1.167


@dataclass(frozen=True, slots=True)
class Measurements:
    """One value a source, float64 (N,), NaN where it cannot be measured.

    Attributes
    ----------
    snr
        Response of a Gaussian matched filter over that response's scatter on this exposure, so that
        noise correlated by resampling or PSF matching is accounted for.
    snr_err
        Standard error of ``snr``: 1 for the noise under the source, and what the error of that
        scatter adds in proportion to ``snr``. The source's own photon noise is not in it, since the
        gain is unknown.
    amplitude
        Peak of the fitted Gaussian, in sigma of a pixel; negative for a fading source.
    flux, flux_err
        Flux of the fitted Gaussian and its 1-sigma error, in sigma of a pixel.
    fwhm
        Full width at half maximum from Gaussian-weighted second moments, pixels.
    elongation
        Major over minor axis from the same moments.
    psf_match
        Correlation of the pixels within one FWHM with the Gaussian: 1 for a noiseless point source.
    sharpness
        Highest pixel within 1.5 px over ``amplitude``: near 1 for a point source, larger for a
        cosmic ray.
    negative_ratio
        Depth of the deepest negative lobe within 2 FWHM, beyond what noise explains, over the
        height of the source: near 0 for a point source, near 1 for a dipole.
    trail
        Significance of the strongest straight line of 25 px through the source, the pixels within
        one FWHM left out, in sigma: that of noise for a point source, large on a trail.
    masked_fraction
        Share of unusable pixels within one FWHM.
    """

    snr: Values
    snr_err: Values
    amplitude: Values
    flux: Values
    flux_err: Values
    fwhm: Values
    elongation: Values
    psf_match: Values
    sharpness: Values
    negative_ratio: Values
    trail: Values
    masked_fraction: Values


@dataclass(frozen=True, slots=True)
class Correlation:
    """How noise is correlated from pixel to pixel, as a matched filter feels it.

    Attributes
    ----------
    scatter
        Of the filter's response at random places; 1 if the noise is white.
    error
        Relative standard error of that; NaN if there was no place to measure it at.
    """

    scatter: float
    error: float


def centroids(
    significance: Image, mask: Mask, positions: Positions
) -> tuple[Positions, NDArray[np.int32]]:
    """Windowed centroids (SExtractor's XWIN, YWIN), and what SEP says of their windows.

    A position on a masked pixel, or one that the iteration would move by more than 2 px, is left as
    it was.

    Returns
    -------
    positions
        float64 (N, 2), 0-based pixels.
    flags
        int32 (N,), SEP's flags of the window: 16 cut off by the edge, 32 some and 64 all of its
        pixels masked.
    """
    if len(positions) == 0:
        return positions, np.zeros(0, np.int32)
    column, row = np.rint(positions).astype(int).T
    masked = mask[row.clip(0, mask.shape[0] - 1), column.clip(0, mask.shape[1] - 1)]
    # Exact overlaps: as good as the 11x11 subpixels that are the default, in a quarter of the time.
    x, y, flags = sep.winpos(
        significance, positions[:, 0], positions[:, 1], DEFAULT_FWHM / PER_FWHM, mask=mask, subpix=0
    )
    moved = np.stack([x, y], axis=1)
    trusted = ~masked & (np.linalg.norm(moved - positions, axis=1) <= _LARGEST_STEP)
    return np.where(trusted[:, None], moved, positions), flags.astype(np.int32)


def noise_correlation(stamps: NDArray[np.float32], fwhm: float) -> Correlation:
    """Scatter of the matched filter's response at random places.

    Parameters
    ----------
    stamps
        float32 (N, 25, 25), around pixels that were chosen regardless of what is there.
    fwhm
        Full width at half maximum of the filter, pixels.
    """
    grid = np.arange(-STAMP_RADIUS, STAMP_RADIUS + 1.0)
    profile = np.exp(-0.5 * (grid[:, None] ** 2 + grid**2) * (PER_FWHM / fwhm) ** 2)
    profile = profile.astype(np.float32).ravel()
    pixels = stamps.reshape(len(stamps), profile.size)
    whole = np.sum(profile**2)
    response = pixels @ profile / np.sqrt(whole)
    # One unusable pixel leaves no number; few places are beside one, so the rest is not copied.
    broken = np.flatnonzero(~np.isfinite(response))
    good = np.isfinite(pixels[broken])
    power = good @ profile**2
    with np.errstate(divide="ignore", invalid="ignore"):
        response[broken] = np.where(good, pixels[broken], 0.0) @ profile / np.sqrt(power)
    response = np.delete(response, broken[power <= 0.5 * whole])
    if response.size == 0:
        return Correlation(1.0, math.nan)
    scatter = 1.4826 * float(np.median(np.abs(response - np.median(response))))
    return Correlation(max(scatter, 0.3), _MAD_ERROR / math.sqrt(response.size))


def seeing(spots: Spots, correlation: Correlation) -> float | None:
    """Median FWHM of what the network holds for point sources, pixels; None with fewer than 3.

    Parameters
    ----------
    spots
        With their stamps.
    correlation
        `noise_correlation` for `DEFAULT_FWHM`.
    """
    measured = measure(spots.take(spots.probability > _POINT_SOURCE), DEFAULT_FWHM, correlation)
    good = (measured.snr > _MIN_SEEING_SNR) & np.isfinite(measured.fwhm)
    if np.count_nonzero(good) < _MIN_SEEING_STARS:
        return None
    return float(np.clip(np.median(measured.fwhm[good]), 1.5, 10.0))


def limiting_flux(fwhm: float, correlation: Correlation) -> float:
    """Flux of a point source of SNR 5, in sigma of a pixel: the depth of the exposure."""
    return 5.0 * correlation.scatter * 2.0 * math.sqrt(math.pi) * fwhm / PER_FWHM


def measure(spots: Spots, fwhm: float, correlation: Correlation) -> Measurements:
    """Measure sources.

    Parameters
    ----------
    spots
        With their stamps.
    fwhm
        Full width at half maximum of the matched filter, pixels.
    correlation
        `noise_correlation` for that filter.
    """
    arms = _trail_arms(fwhm)
    chunks = [slice(i, i + _CHUNK) for i in range(0, max(len(spots), 1), _CHUNK)]
    parts = [
        _measure(spots.stamps[chunk], spots.positions[chunk], fwhm, correlation, arms)
        for chunk in chunks
    ]
    return Measurements(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Measurements)
        )
    )


def _measure(
    stamps: NDArray[np.float16],
    positions: Positions,
    fwhm: float,
    correlation: Correlation,
    arms: NDArray[np.float64],
) -> Measurements:
    good = np.isfinite(stamps)
    pixels = np.where(good, stamps, np.float16(0.0)).astype(np.float64)
    grid = np.arange(-STAMP_RADIUS, STAMP_RADIUS + 1.0)
    offset = positions - np.rint(positions)
    dx = grid[None, None, :] - offset[:, 0, None, None]
    dy = grid[None, :, None] - offset[:, 1, None, None]
    distance = np.hypot(dx, dy)
    sigma = fwhm / PER_FWHM
    profile = np.exp(-0.5 * (distance / sigma) ** 2) * good

    def total(values: NDArray[np.float64]) -> Values:
        return np.asarray(values.sum(axis=(1, 2)))

    with np.errstate(divide="ignore", invalid="ignore"):
        power = total(profile**2)
        projection = total(profile * pixels)
        amplitude = projection / power
        snr = projection / np.sqrt(power) / correlation.scatter
        flux = amplitude * 2.0 * np.pi * sigma**2
        core = distance <= fwhm
        cut, cut_profile = pixels * core, profile * core
        psf_match = total(cut * cut_profile) / np.sqrt(total(cut**2) * total(cut_profile**2))
        highest = np.abs(pixels * (distance <= 1.5)).max(axis=(1, 2), initial=0.0)
        sign = np.sign(amplitude)
        fwhm_measured, elongation = _moments(pixels * sign[:, None, None], dx, dy)
        return Measurements(
            snr=snr,
            snr_err=np.hypot(1.0, snr * correlation.error),
            amplitude=amplitude,
            flux=flux,
            flux_err=np.abs(flux / snr),
            fwhm=fwhm_measured,
            elongation=elongation,
            psf_match=psf_match,
            sharpness=highest / np.abs(amplitude),
            negative_ratio=_negative_ratio(pixels, distance, sign, fwhm, correlation.scatter),
            trail=_trail(pixels, arms),
            masked_fraction=total((core & ~good).astype(float)) / total(core.astype(float)),
        )


def _moments(
    pixels: NDArray[np.float64], dx: NDArray[np.float64], dy: NDArray[np.float64]
) -> tuple[Values, Values]:
    """FWHM and elongation; a Gaussian weight of sigma w turns a variance v into vw^2/(v + w^2)."""
    weighted = pixels * np.exp(-0.5 * (dx**2 + dy**2) / _WINDOW_SIGMA**2)
    norm = weighted.sum(axis=(1, 2))
    xx, yy, xy = ((weighted * a).sum(axis=(1, 2)) / norm for a in (dx**2, dy**2, dx * dy))
    middle, spread = (xx + yy) / 2.0, np.hypot((xx - yy) / 2.0, xy)
    major, minor = (
        np.where((v > 0) & (v < _WINDOW_SIGMA**2), 1.0 / (1.0 / v - 1.0 / _WINDOW_SIGMA**2), np.nan)
        for v in (middle + spread, middle - spread)
    )
    return np.sqrt(np.sqrt(major * minor)) * PER_FWHM, np.sqrt(major / minor)


def _negative_ratio(
    pixels: NDArray[np.float64],
    distance: NDArray[np.float64],
    sign: Values,
    fwhm: float,
    correlation: float,
) -> Values:
    smooth = ndimage.uniform_filter(pixels * sign[:, None, None], size=(0, 3, 3))
    peak = np.where(distance <= 2.0, smooth, -np.inf).max(axis=(1, 2), initial=-np.inf)
    lobe = -np.where(distance <= 2.0 * fwhm, smooth, np.inf).min(axis=(1, 2), initial=np.inf)
    noise = 3.0 * min(1.0, correlation / 3.0)
    return np.where(peak > 0, np.clip((lobe - noise) / peak, 0.0, 2.0), np.nan)


def _trail(pixels: NDArray[np.float64], arms: NDArray[np.float64]) -> Values:
    """Significance of the best line, as its weaker arm has it: a neighbour alone is no trail."""
    response = np.tensordot(pixels, arms, ([1, 2], [2, 3]))
    return np.asarray(response.min(axis=2).max(axis=1, initial=0.0) * math.sqrt(2.0))


@lru_cache(maxsize=16)
def _trail_arms(fwhm: float) -> NDArray[np.float64]:
    """Both halves of straight lines through a stamp's centre, each of unit noise.

    float64 (angles, 2, 25, 25); a line is 3 px wide and leaves out the pixels within one FWHM.
    """
    grid = np.arange(-STAMP_RADIUS, STAMP_RADIUS + 1.0)
    x, y = np.meshgrid(grid, grid)
    arms = []
    for angle in np.arange(_TRAIL_ANGLES) * np.pi / _TRAIL_ANGLES:
        across = y * np.cos(angle) - x * np.sin(angle)
        along = x * np.cos(angle) + y * np.sin(angle)
        line = (np.abs(across) <= 1.0) & (np.abs(along) <= STAMP_RADIUS)
        halves = [line & (sign * along > fwhm) for sign in (1.0, -1.0)]
        arms.append([half / np.sqrt(max(half.sum(), 1)) for half in halves])
    return np.array(arms)
