"""Measurements of sources on their stamps: how strong, how sharp, how much like a PSF."""

import math
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Image, Positions, Stamps, Values
from astrotriton.detection.compiled import compiled
from astrotriton.detection.sources.centroids import PER_FWHM
from astrotriton.detection.sources.spots import Spots
from astrotriton.detection.sources.trails import trails

_CHUNK = 2048  # stamps worked on at once
_WINDOW_SIGMA = 3.0  # of the Gaussian weight of the moments, pixels
_HIGHEST_WITHIN, _PEAK_WITHIN = 1.5, 2.0  # of a source, pixels
_FILTER_REACH = 3.0  # of the matched filter at random places, sigma: beyond is a 10,000th of it
# What is summed up over the pixels of a stamp: the matched filter's, those of the pixels within one
# FWHM and their Gaussian's, the weighted moments, and extremes of the pixels smoothed by 3x3.
_SUMS = np.dtype(
    [
        (name, np.float64)
        for name in (
            *("power", "projection", "core", "core_masked", "core_square", "core_power"),
            *("core_cross", "highest", "norm", "xx", "yy", "xy"),
            *("peak_low", "peak_high", "lobe_low", "lobe_high"),
        )
    ]
)
# Standard error of a normal sample's scaled median absolute deviation, times the root of its size
# (Rousseeuw & Croux 1993: its efficiency is 36.7 %).
_MAD_ERROR = 1.167


@dataclass(frozen=True, slots=True)
class Measurements:
    """One value a source, float64 (N,), NaN where it cannot be measured.

    A source that fades is measured upside down, so its amplitude and flux are positive here.

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
        Peak of the fitted Gaussian, in sigma of a pixel; negative for what lies on the other side
        of the background than the network holds it for.
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
        one FWHM and what is alike in all directions left out, in sigma: that of noise for a point
        source, large on a trail.
    masked_fraction
        Share of unusable pixels within one FWHM.
    """

    snr: Values
    snr_err: Values
    amplitude: Values
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


def filter_responses(stamps: NDArray[np.float32], fwhm: float) -> NDArray[np.float32]:
    """What a matched filter of unit noise answers in the middle of stamps.

    Parameters
    ----------
    stamps
        float32 (N, S, S), in sigma.
    fwhm
        Full width at half maximum of the filter, pixels. It is cut off where stamps end.

    Returns
    -------
    float32 (M,), of those stamps where half of the filter or more sees usable pixels.
    """
    sigma = fwhm / PER_FWHM
    reach = min(math.ceil(_FILTER_REACH * sigma), stamps.shape[1] // 2)
    profile = np.exp(-0.5 * (np.arange(-reach, reach + 1.0) / sigma) ** 2).astype(np.float32)
    found = _responses(stamps, profile)
    usable: NDArray[np.float32] = found[np.isfinite(found)]
    return usable


def noise_correlation(responses: NDArray[np.float32]) -> Correlation:
    """Scatter of `filter_responses` around pixels chosen regardless of what is there."""
    if responses.size == 0:
        return Correlation(1.0, math.nan)
    scatter = 1.4826 * float(np.median(np.abs(responses - np.median(responses))))
    return Correlation(max(scatter, 0.3), _MAD_ERROR / math.sqrt(responses.size))


@compiled
def _responses(stamps: NDArray[np.float32], profile: Image) -> NDArray[np.float32]:
    """Response of a filter of unit noise in the middle of stamps, float32 (N,).

    NaN where half of the filter, whose profile along either axis is given, sees no usable pixel.
    """
    found = np.empty(len(stamps), np.float32)
    side = len(profile)
    first = (stamps.shape[1] - side) // 2
    whole = np.sum(profile**2) ** 2
    for k in range(len(stamps)):
        stamp = stamps[k, first : first + side, first : first + side]
        response = np.float32(0.0)
        for i in range(side):
            across = np.float32(0.0)
            for j in range(side):
                across += profile[j] * stamp[i, j]
            response += profile[i] * across
        power = whole
        if not abs(response) < np.inf:  # few places are beside an unusable pixel
            power = response = np.float32(0.0)
            for i in range(side):
                for j in range(side):
                    if abs(stamp[i, j]) < np.inf:
                        weight = profile[i] * profile[j]
                        power += weight**2
                        response += weight * stamp[i, j]
        found[k] = response / np.sqrt(power) if power > 0.5 * whole else np.float32(np.nan)
    return found


def measure(spots: Spots, stamps: Stamps, fwhm: float, correlation: Correlation) -> Measurements:
    """Measure sources.

    Parameters
    ----------
    spots, stamps
        The sources, and the stamps that they are numbered in, float16 (M, 25, 25).
    fwhm
        Full width at half maximum of the matched filter, pixels.
    correlation
        `noise_correlation` for that filter.
    """
    chunks = [slice(i, i + _CHUNK) for i in range(0, max(len(spots), 1), _CHUNK)]
    parts = [
        _measure(stamps[spots.stamp[chunk]], spots.positions[chunk], fwhm, correlation)
        for chunk in chunks
    ]
    return Measurements(
        *(
            np.concatenate([getattr(part, field.name) for part in parts])
            for field in fields(Measurements)
        )
    )


def _measure(
    stamps: Stamps,
    positions: Positions,
    fwhm: float,
    correlation: Correlation,
) -> Measurements:
    pixels = stamps.astype(np.float32)
    sums = np.zeros(len(pixels), _SUMS)
    sigma = fwhm / PER_FWHM
    _sum_up(pixels, positions - np.rint(positions), sigma, fwhm, sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        amplitude = sums["projection"] / sums["power"]
        snr = sums["projection"] / np.sqrt(sums["power"]) / correlation.scatter
        fwhm_measured, elongation = _moments(sums)
        return Measurements(
            snr=snr,
            snr_err=np.hypot(1.0, snr * correlation.error),
            amplitude=amplitude,
            fwhm=fwhm_measured,
            elongation=elongation,
            psf_match=sums["core_cross"] / np.sqrt(sums["core_square"] * sums["core_power"]),
            sharpness=sums["highest"] / np.abs(amplitude),
            negative_ratio=_negative_ratio(sums, np.sign(amplitude), correlation.scatter),
            trail=trails(pixels, fwhm),
            masked_fraction=sums["core_masked"] / sums["core"],
        )


@compiled
def _smoothed(stamp: Image, row: int, column: int) -> float:
    """Mean of the 3x3 pixels around one; a stamp goes on as it ends."""
    total, last = 0.0, len(stamp) - 1
    for i in range(row - 1, row + 2):
        for j in range(column - 1, column + 2):
            total += stamp[min(max(i, 0), last), min(max(j, 0), last)] / 9.0
    return total


@compiled
def _sum_up(
    pixels: Image,
    offsets: Positions,
    sigma: float,
    fwhm: float,
    sums: NDArray[np.void],
) -> None:
    """Read off every stamp (N, 25, 25) what is measured from sums over its pixels.

    Unusable pixels, NaN, are replaced by zeros, and ``pixels`` with them. ``offsets`` are float64
    (N, 2), x and y of the sources from the centres of their stamps.
    """
    side, radius = pixels.shape[1], pixels.shape[1] // 2
    profile, window = np.empty((2, side)), np.empty((2, side))
    for k in range(len(pixels)):
        stamp, here = pixels[k], sums[k]
        for i in range(side):
            for axis in range(2):
                distance = i - radius - offsets[k, axis]
                profile[axis, i] = math.exp(-0.5 * (distance / sigma) ** 2)
                window[axis, i] = math.exp(-0.5 * (distance / _WINDOW_SIGMA) ** 2)
        power = projection = norm = xx = yy = xy = highest = 0.0
        core = core_masked = core_square = core_power = core_cross = 0.0
        for i in range(side):
            for j in range(side):
                dx, dy = j - radius - offsets[k, 0], i - radius - offsets[k, 1]
                in_core = dx**2 + dy**2 <= fwhm**2
                core += in_core
                if not abs(stamp[i, j]) < np.inf:
                    stamp[i, j] = 0.0
                    core_masked += in_core
                    continue
                value, model = np.float64(stamp[i, j]), profile[0, j] * profile[1, i]
                power += model**2
                projection += model * value
                if in_core:
                    core_square += value**2
                    core_power += model**2
                    core_cross += value * model
                if dx**2 + dy**2 <= _HIGHEST_WITHIN**2:
                    highest = max(highest, abs(value))
                value *= window[0, j] * window[1, i]
                norm += value
                xx += value * dx**2
                yy += value * dy**2
                xy += value * dx * dy
        here.power, here.projection, here.highest = power, projection, highest
        here.core, here.core_masked, here.core_square = core, core_masked, core_square
        here.core_power, here.core_cross = core_power, core_cross
        here.norm, here.xx, here.yy, here.xy = norm, xx, yy, xy
        here.peak_low, here.peak_high, here.lobe_low, here.lobe_high = _extremes(
            stamp, offsets[k], fwhm
        )


@compiled
def _extremes(
    stamp: Image, offset: NDArray[np.float64], fwhm: float
) -> tuple[float, float, float, float]:
    """Least and largest smoothed pixel of a source's peak, and of all within 2 FWHM."""
    radius = len(stamp) // 2
    peak_low = lobe_low = np.inf
    peak_high = lobe_high = -np.inf
    for i in range(len(stamp)):
        for j in range(len(stamp)):
            dx, dy = j - radius - offset[0], i - radius - offset[1]
            distance = dx**2 + dy**2
            if distance > max(_PEAK_WITHIN, 2.0 * fwhm) ** 2:
                continue
            smooth = _smoothed(stamp, i, j)
            if distance <= _PEAK_WITHIN**2:
                peak_low, peak_high = min(peak_low, smooth), max(peak_high, smooth)
            if distance <= (2.0 * fwhm) ** 2:
                lobe_low, lobe_high = min(lobe_low, smooth), max(lobe_high, smooth)
    return peak_low, peak_high, lobe_low, lobe_high


def _moments(sums: NDArray[np.void]) -> tuple[Values, Values]:
    """FWHM and elongation; a Gaussian weight of sigma w turns a variance v into vw^2/(v + w^2)."""
    xx, yy, xy = (sums[name] / sums["norm"] for name in ("xx", "yy", "xy"))
    middle, spread = (xx + yy) / 2.0, np.hypot((xx - yy) / 2.0, xy)
    major, minor = (
        np.where((v > 0) & (v < _WINDOW_SIGMA**2), 1.0 / (1.0 / v - 1.0 / _WINDOW_SIGMA**2), np.nan)
        for v in (middle + spread, middle - spread)
    )
    return np.sqrt(np.sqrt(major * minor)) * PER_FWHM, np.sqrt(major / minor)


def _negative_ratio(sums: NDArray[np.void], sign: Values, correlation: float) -> Values:
    peak = np.where(sign > 0, sums["peak_high"], -sums["peak_low"])
    lobe = np.where(sign > 0, -sums["lobe_low"], sums["lobe_high"])
    noise = 3.0 * min(1.0, correlation / 3.0)
    return np.where(peak > 0, np.clip((lobe - noise) / peak, 0.0, 2.0), np.nan)
