"""Measurements of sources on the significance map: how strong, how sharp, how much like a PSF."""

import math
from dataclasses import dataclass, fields

import numpy as np
import sep
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from detection.peaks import Positions
from detection.preprocess import Normalised

Values = NDArray[np.float64]

DEFAULT_FWHM = 4.0
_RADIUS = 12  # of a stamp, pixels
_CHUNK = 2048  # stamps held at once
_PER_FWHM = 2.3548200450309493  # FWHM of a Gaussian in units of its sigma
_WINDOW_SIGMA = 3.0  # of the Gaussian weight of the moments, pixels
_MIN_SEEING_STARS = 3


@dataclass(frozen=True, slots=True)
class Measurements:
    """One value a source, float64 (N,), NaN where it cannot be measured.

    Attributes
    ----------
    snr
        Response of a Gaussian matched filter over that response's scatter on this exposure, so that
        noise correlated by resampling or PSF matching is accounted for.
    amplitude
        Peak of the fitted Gaussian, in sigma of a pixel; negative for a fading source.
    flux, flux_err
        Flux of the fitted Gaussian and its 1-sigma error, counts.
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
    masked_fraction
        Share of unusable pixels within one FWHM.
    edge_distance
        Distance to the nearest edge of the exposure, pixels.
    """

    snr: Values
    amplitude: Values
    flux: Values
    flux_err: Values
    fwhm: Values
    elongation: Values
    psf_match: Values
    sharpness: Values
    negative_ratio: Values
    masked_fraction: Values
    edge_distance: Values


def centroids(exposure: Normalised, positions: Positions, fwhm: float) -> Positions:
    """Windowed centroids (SExtractor's XWIN, YWIN), float64 (N, 2), 0-based pixels.

    A position that the iteration would move by more than 1.5 px is left as it was.
    """
    if len(positions) == 0:
        return positions
    x, y, _ = sep.winpos(
        exposure.significance,
        positions[:, 0],
        positions[:, 1],
        fwhm / _PER_FWHM,
        mask=exposure.mask,
    )
    moved = np.stack([x, y], axis=1)
    trusted = np.linalg.norm(moved - positions, axis=1) <= 1.5
    return np.where(trusted[:, None], moved, positions)


def seeing(measured: Measurements, probability: Values) -> float | None:
    """Median FWHM of what the network holds for point sources, pixels; None with fewer than 3."""
    good = (probability > 0.9) & (measured.snr > 8.0) & np.isfinite(measured.fwhm)
    if np.count_nonzero(good) < _MIN_SEEING_STARS:
        return None
    return float(np.median(measured.fwhm[good]))


def measure(exposure: Normalised, positions: Positions, fwhm: float = DEFAULT_FWHM) -> Measurements:
    """Measure sources.

    Parameters
    ----------
    exposure
        The normalised exposure.
    positions
        float64 (N, 2), x and y, 0-based pixels.
    fwhm
        Full width at half maximum of the matched filter, pixels.
    """
    padded = np.pad(exposure.significance, _RADIUS + 1)
    usable = np.pad(~exposure.mask, _RADIUS + 1)
    correlation = _noise_correlation(exposure, fwhm)
    parts = [
        _measure(exposure, padded, usable, chunk, fwhm, correlation)
        for chunk in np.array_split(positions, max(1, -(-len(positions) // _CHUNK)))
    ]
    return Measurements(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Measurements)
        )
    )


def _noise_correlation(exposure: Normalised, fwhm: float) -> float:
    """Scatter of the matched filter's response on this exposure; 1 if its noise were white."""
    sigma = fwhm / _PER_FWHM
    response: NDArray[np.float32] = ndimage.gaussian_filter(exposure.significance, sigma)
    # A Gaussian of unit sum turns white noise of sigma 1 into noise of 1 / (2 sqrt(pi) sigma).
    sampled = response[::3, ::3][~exposure.mask[::3, ::3]]
    scatter = 1.4826 * float(np.median(np.abs(sampled - np.median(sampled))))
    return max(scatter * 2.0 * math.sqrt(math.pi) * sigma, 0.3)


def _measure(
    exposure: Normalised,
    padded: NDArray[np.float32],
    usable: NDArray[np.bool_],
    positions: Positions,
    fwhm: float,
    correlation: float,
) -> Measurements:
    side = 2 * _RADIUS + 1
    height, width = exposure.mask.shape
    column = np.clip(np.rint(positions[:, 0]).astype(int), 0, width - 1)
    row = np.clip(np.rint(positions[:, 1]).astype(int), 0, height - 1)
    # A window that starts at (row + 1, column + 1) of the padded image is centred on (row, column).
    stamps = sliding_window_view(padded, (side, side))[row + 1, column + 1].astype(np.float64)
    good = sliding_window_view(usable, (side, side))[row + 1, column + 1]

    grid = np.arange(-_RADIUS, _RADIUS + 1.0)
    dx = grid[None, None, :] - (positions[:, 0] - column)[:, None, None]
    dy = grid[None, :, None] - (positions[:, 1] - row)[:, None, None]
    distance = np.hypot(dx, dy)
    sigma = fwhm / _PER_FWHM
    profile = np.exp(-0.5 * (distance / sigma) ** 2) * good

    def total(values: NDArray[np.float64]) -> Values:
        return np.asarray(values.sum(axis=(1, 2)))

    with np.errstate(divide="ignore", invalid="ignore"):
        power = total(profile**2)
        projection = total(profile * stamps)
        amplitude = projection / power
        snr = projection / np.sqrt(power) / correlation
        flux = amplitude * 2.0 * np.pi * sigma**2 * exposure.noise
        core = distance <= fwhm
        cut, cut_profile = stamps * core, profile * core
        psf_match = total(cut * cut_profile) / np.sqrt(total(cut**2) * total(cut_profile**2))
        sharpness = np.abs(stamps * (distance <= 1.5)).max(axis=(1, 2)) / np.abs(amplitude)
        flux_err = np.abs(flux / snr)
        fwhm_measured, elongation = _moments(stamps * np.sign(amplitude)[:, None, None], dx, dy)
        masked_fraction = total((core & ~good).astype(float)) / total(core.astype(float))
    return Measurements(
        snr=snr,
        amplitude=amplitude,
        flux=flux,
        flux_err=flux_err,
        fwhm=fwhm_measured,
        elongation=elongation,
        psf_match=psf_match,
        sharpness=sharpness,
        negative_ratio=_negative_ratio(stamps, distance, np.sign(amplitude), fwhm, correlation),
        masked_fraction=masked_fraction,
        edge_distance=np.minimum.reduce(
            [
                positions[:, 0] + 0.5,
                positions[:, 1] + 0.5,
                width - 0.5 - positions[:, 0],
                height - 0.5 - positions[:, 1],
            ]
        ),
    )


def _moments(
    stamps: NDArray[np.float64], dx: NDArray[np.float64], dy: NDArray[np.float64]
) -> tuple[Values, Values]:
    """FWHM and elongation; a Gaussian weight of sigma w turns a variance v into vw^2/(v + w^2)."""
    weighted = stamps * np.exp(-0.5 * (dx**2 + dy**2) / _WINDOW_SIGMA**2)
    norm = weighted.sum(axis=(1, 2))
    xx, yy, xy = ((weighted * a).sum(axis=(1, 2)) / norm for a in (dx**2, dy**2, dx * dy))
    middle, spread = (xx + yy) / 2.0, np.hypot((xx - yy) / 2.0, xy)
    major, minor = (
        np.where((v > 0) & (v < _WINDOW_SIGMA**2), 1.0 / (1.0 / v - 1.0 / _WINDOW_SIGMA**2), np.nan)
        for v in (middle + spread, middle - spread)
    )
    return np.sqrt(np.sqrt(major * minor)) * _PER_FWHM, np.sqrt(major / minor)


def _negative_ratio(
    stamps: NDArray[np.float64],
    distance: NDArray[np.float64],
    sign: Values,
    fwhm: float,
    correlation: float,
) -> Values:
    smooth = ndimage.uniform_filter(stamps * sign[:, None, None], size=(0, 3, 3))
    peak = np.where(distance <= 2.0, smooth, -np.inf).max(axis=(1, 2))
    lobe = -np.where(distance <= 2.0 * fwhm, smooth, np.inf).min(axis=(1, 2))
    noise = 3.0 * min(1.0, correlation / 3.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(peak > 0, np.clip((lobe - noise) / peak, 0.0, 2.0), np.nan)
