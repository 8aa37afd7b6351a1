"""The PSF that fluxes are fitted with: from an image of it, from its width, or from the sources.

Where only a width is known the profile is a Moffat function of beta 3 (Moffat 1969, A&A 3, 455).
Measured stars have beta between 2.5 and 4.765, which is that of Kolmogorov turbulence (Trujillo et
al. 2001, MNRAS 328, 977); a Gaussian of the same width lacks their wings, a quarter of the flux.
Where point sources say more, the likely profiles are those that they leave, and how much fluxes
differ between these is the systematic error of a flux.

A width is that of a source as it appears in the pixels. Profiles are sampled at pixel centres.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import RectBivariateSpline

from astrotriton.detection.arrays import STAMP_RADIUS, STAMP_SIDE, Image, Positions, Stamps, Values
from astrotriton.detection.compiled import compiled
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.seeing import LEAST_FWHM, MOST_FWHM, Seeing
from astrotriton.detection.sources.centroids import DEFAULT_FWHM
from astrotriton.detection.sources.measurements import Correlation, measure
from astrotriton.detection.sources.spots import Spots
from astrotriton.wire.exposures import SeeingSource

# Of the sources that say what the PSF is: the network's probability, their SNR, how many there must
# be, and how many are looked at.
_POINT_SOURCE, _MIN_SNR, _MIN_STARS, _MOST_STARS = 0.9, 8.0, 3, 30
# A profile is tabulated at offsets from the middle of its stamp, as far as a fit may move a source,
# in steps of an eighth of a pixel, which a flux feels by a few thousandths at most.
_REACH, _STEPS = 1.0, 17
# Shapes are written as 1 / beta: 0 is a Gaussian, which Moffat functions turn into. Most are near
# the usual one, and some are any: so it is kept until sources speak against it.
_SHAPE, _SHAPE_SCATTER, _MOST_SHAPE = 1.0 / 3.0, 0.04, 0.45
_ANY_SHAPE, _ANY_SHAPE_IF_SAID = 0.2, 0.05
# Standard deviation of the logarithm of a width that is said, and of the one that is assumed: real
# exposures have 2 to 8 px.
_SAID_SCATTER, _ASSUMED_SCATTER = 0.015, 0.6
# Relative error of a flux that no profile of the family is rid of, and that of a PSF's image; one
# that is undersampled cannot be shifted exactly.
_FAMILY_ERROR, _IMAGE_ERROR, _UNDERSAMPLED_ERROR = 0.01, 0.005, 0.025
_UNDERSAMPLED = 2.0  # pixels
# A source that is not a point, as a cosmic ray, counts no more than this against the others, in
# units of the log likelihood, and one brighter than this SNR no more than one that has it.
_MOST_VOTE, _MOST_SNR = 6.0, 50.0
# Of the background around a source, in sigma of a pixel: wings and background look alike.
_BACKGROUND_ERROR = 0.3
_COARSE_WIDTHS = np.geomspace(1.0, 13.0, 28)
_COARSE_SHAPES = np.array([0.0, 0.15, _SHAPE, _MOST_SHAPE])
_DEVIATIONS = np.linspace(-3.0, 3.0, 13)
_LEAST_SHARE = 1e-3  # of the likeliest profile's
# Where nearly all of the probability is this near, relatively, a finer grid is laid there.
_FINE_REACH, _FINE_WIDTHS, _MOST_NEAR = 0.12, 13, 0.95
_FINE_SHAPES = np.linspace(0.0, _MOST_SHAPE, 6)
_FINER, _BETWEEN = 6, 28
_OVERSAMPLING = 8  # of a PSF's image, to measure its width


@dataclass(frozen=True, slots=True)
class Psf:
    """A PSF, tabulated for fits.

    Attributes
    ----------
    fwhm
        Full width at half maximum, pixels.
    templates
        float32 (289, 25, 25), the share of the flux in each pixel of a stamp, for offsets of the
        source from its middle of -1 to 1 px in steps of 1/8, x fastest.
    scale, error
        What a flux fitted with it is multiplied by on average over the likely profiles, and the
        relative scatter of that: the systematic error of a flux.
    """

    fwhm: float
    templates: Image
    scale: float = 1.0
    error: float = 0.0

    @property
    def power(self) -> float:
        """Sum of the squares of the centred profile: 1 over the noise-equivalent area in pixels."""
        return float(np.sum(self.templates[len(self.templates) // 2].astype(np.float64) ** 2))


@dataclass(frozen=True, slots=True)
class KnownPsf:
    """A PSF, and who says how wide it is."""

    psf: Psf
    source: SeeingSource

    @property
    def fwhm(self) -> float | None:
        """Full width at half maximum, pixels; None if it is assumed."""
        return None if self.source == "assumed" else self.psf.fwhm


@dataclass(frozen=True, slots=True)
class Stars:
    """Sources that are likely points, S of them.

    Attributes
    ----------
    stamps
        float32 (S, 25, 25), in sigma; NaN where unusable.
    offsets
        float64 (S, 2), x and y of the sources from the middles of their stamps, pixels.
    snr
        float64 (S,).
    """

    stamps: Image
    offsets: Positions
    snr: Values


def find_psf(
    spots: Spots,
    stamps: Stamps,
    correlation: Correlation,
    *,
    sent: Psf | None = None,
    said: Seeing | None = None,
) -> KnownPsf:
    """The PSF of an exposure: the one that was sent, or what is said and what sources show.

    Parameters
    ----------
    spots, stamps
        What was found, and the stamps that it is numbered in.
    correlation
        `noise_correlation` for `DEFAULT_FWHM`.
    sent
        What the caller's image of it shows.
    said
        What the request or the header says.
    """
    if sent is not None:
        if said is not None and said.source == "request":
            return KnownPsf(replace(sent, fwhm=said.fwhm), "request")
        return KnownPsf(sent, "psf")
    stars = _stars(spots, stamps, correlation)
    enough = len(stars.snr) >= _MIN_STARS
    fwhm = None if said is None else said.fwhm
    psf = psf_of_sources(stars, correlation.scatter, said=fwhm, enough=enough)
    if enough:
        # A windowed centroid is off by so much that the profile seems rounder than it is.
        stars = recentred(stars, psf)
        psf = psf_of_sources(stars, correlation.scatter, said=fwhm, enough=enough)
    if said is not None:
        return KnownPsf(psf, said.source)
    return KnownPsf(psf, "measured" if enough else "assumed")


def _stars(spots: Spots, stamps: Stamps, correlation: Correlation) -> Stars:
    """The sources that are most likely points, bright ones first."""
    likely = spots.take((spots.probability > _POINT_SOURCE) & ~spots.saturated)
    measured = measure(likely, stamps, DEFAULT_FWHM, correlation)
    snr = np.abs(measured.snr)
    good = np.flatnonzero((snr > _MIN_SNR) & (measured.masked_fraction == 0.0))
    chosen = good[np.argsort(-np.minimum(snr[good], _MOST_SNR), kind="stable")][:_MOST_STARS]
    positions = likely.positions[chosen]
    return Stars(
        stamps[likely.stamp[chosen]].astype(np.float32),
        positions - np.rint(positions),
        measured.snr[chosen],
    )


def recentred(stars: Stars, psf: Psf) -> Stars:
    """The same sources, where a PSF fits them best."""
    return replace(stars, offsets=_recentred(stars.stamps, stars.offsets, psf.templates))


def psf_of_image(image: Image) -> Psf:
    """The PSF that an image shows, on the exposure's pixels, of any normalisation.

    Parameters
    ----------
    image
        float32 (H, W); not-finite pixels count as 0. Its sum is the whole flux. The source is where
        its centroid within two widths is, near the middle.

    Raises
    ------
    InputError
        ``bad-psf`` (the field is ``psf``) if it has no peak near its middle, or is narrower than
        0.8 px or wider than 25 px.
    """
    pixels = np.where(np.isfinite(image), image, 0.0).astype(np.float64)
    total = pixels.sum()
    if min(pixels.shape) < 3 or not total > 0.0:
        raise _bad("has no positive sum of 3x3 pixels or more")
    pixels /= total
    fwhm = _width(pixels)
    if not LEAST_FWHM <= fwhm <= MOST_FWHM:
        raise _bad(f"is {fwhm:.2f} px wide")
    x, y = _centroid(pixels, fwhm)
    middle = (np.array(pixels.shape[::-1]) - 1.0) / 2.0
    if np.hypot(x - middle[0], y - middle[1]) > max(2.0, fwhm / 2.0):
        raise _bad(f"has its source at ({x:.1f}, {y:.1f}), not in its middle")
    spline = ndimage.spline_filter(np.pad(pixels, 2), order=5)
    grid = np.arange(-STAMP_RADIUS, STAMP_RADIUS + 1.0)
    templates = np.empty((_STEPS**2, STAMP_SIDE, STAMP_SIDE), np.float32)
    for number, (dx, dy) in enumerate(_offsets()):
        rows, columns = np.meshgrid(grid - dy + y + 2.0, grid - dx + x + 2.0, indexing="ij")
        templates[number] = ndimage.map_coordinates(
            spline, [rows, columns], order=5, mode="constant", prefilter=False
        )
    narrow = fwhm < _UNDERSAMPLED
    return Psf(fwhm, templates, error=_UNDERSAMPLED_ERROR if narrow else _IMAGE_ERROR)


def _bad(what: str) -> InputError:
    return InputError(
        "bad-psf",
        "psf",
        f"{what}: send an image of the PSF alone on the exposure's pixels, without background, in"
        f" its middle, of {LEAST_FWHM:g} to {MOST_FWHM:g} px FWHM",
    )


def psf_of_sources(stars: Stars, scatter: float, *, said: float | None, enough: bool) -> Psf:
    """The PSF of the likely profiles, given what is said of its width and what sources show.

    Parameters
    ----------
    stars
        Sources that are likely points; there may be none.
    scatter
        Of a matched filter's response to noise, 1 if it is white.
    said
        The full width at half maximum, pixels, as the request or the header has it.
    enough
        Whether there are enough sources to say the profile. Without that, what is said is taken as
        it is, and sources only narrow down what would be assumed.
    """
    if said is not None:
        return _psf_of_said(stars, scatter, said, enough=enough)
    centre, spread = DEFAULT_FWHM, math.inf if enough else _ASSUMED_SCATTER
    widths, shapes = _COARSE_WIDTHS, _COARSE_SHAPES
    votes = _votes(stars, scatter, widths, shapes)
    most = votes.max(axis=(1, 2), initial=0.0)
    total = _sum_of(votes, most)
    posterior = total + _log_prior(widths, shapes, centre, spread)
    best = widths[np.unravel_index(posterior.argmax(), posterior.shape)[0]]
    share = np.exp(posterior - posterior.max())
    near = np.abs(np.log(widths / best)) <= _FINE_REACH
    if share[near].sum() > _MOST_NEAR * share.sum():
        widths = best * np.exp(np.linspace(-_FINE_REACH, _FINE_REACH, _FINE_WIDTHS))
        shapes = _FINE_SHAPES
        votes = _votes(stars, scatter, widths, shapes)
        most = np.maximum(most, votes.max(axis=(1, 2), initial=0.0))
        total = _sum_of(votes, most)
    return _mixture(*_finer(widths, shapes, total, centre, spread))


def _psf_of_said(stars: Stars, scatter: float, said: float, *, enough: bool) -> Psf:
    if not enough:
        widths, shapes = said * np.exp(_SAID_SCATTER * _DEVIATIONS), np.array([_SHAPE])
        prior = _log_prior(widths, shapes, said, _SAID_SCATTER)
        return replace(_mixture(widths, shapes, prior), fwhm=said)
    # Twice as wide as what is believed: whether the width of a pixel counts in the PSF's.
    spread = 2.0 * _SAID_SCATTER
    widths, shapes = said * np.exp(spread * _DEVIATIONS), _FINE_SHAPES
    votes = _votes(stars, scatter, widths, shapes)
    total = _sum_of(votes, votes.max(axis=(1, 2), initial=0.0))
    return replace(
        _mixture(*_finer(widths, shapes, total, said, spread, _ANY_SHAPE_IF_SAID)), fwhm=said
    )


def _votes(stars: Stars, scatter: float, widths: Values, shapes: Values) -> Values:
    """Log likelihoods of profiles, their fluxes free, float64 (S, widths, shapes)."""
    grid = np.stack(np.meshgrid(widths, shapes, indexing="ij"), axis=-1).reshape(-1, 2)
    votes = _log_likelihoods(stars.stamps, stars.offsets, grid, _BACKGROUND_ERROR) / scatter**2
    votes *= np.minimum(1.0, (_MOST_SNR / np.maximum(np.abs(stars.snr), 1.0)) ** 2)[:, None]
    return votes.reshape(len(votes), len(widths), len(shapes))


def _sum_of(votes: Values, most: Values) -> Values:
    return np.asarray(np.maximum(votes - most[:, None, None], -_MOST_VOTE).sum(axis=0))


def _log_prior(
    widths: Values, shapes: Values, centre: float, spread: float, any_shape: float = _ANY_SHAPE
) -> Values:
    by_width = -0.5 * (np.log(widths / centre) / spread) ** 2
    usual = np.exp(-0.5 * ((shapes - _SHAPE) / _SHAPE_SCATTER) ** 2)
    usual /= _SHAPE_SCATTER * math.sqrt(2.0 * math.pi)
    by_shape = np.log((1.0 - any_shape) * usual + any_shape / _MOST_SHAPE)
    return np.asarray(by_width[:, None] + by_shape[None, :])


def _finer(
    widths: Values,
    shapes: Values,
    votes: Values,
    centre: float,
    spread: float,
    any_shape: float = _ANY_SHAPE,
) -> tuple[Values, Values, Values]:
    """The log posterior probability on a grid finer than that of the votes, by bicubic splines."""
    spline = RectBivariateSpline(np.log(widths), shapes, votes, kx=3, ky=3)
    finer = np.linspace(math.log(widths[0]), math.log(widths[-1]), _FINER * (len(widths) - 1) + 1)
    between = np.linspace(shapes[0], shapes[-1], _BETWEEN)
    posterior = spline(finer, between) + _log_prior(
        np.exp(finer), between, centre, spread, any_shape
    )
    return np.exp(finer), between, posterior


def _mixture(widths: Values, shapes: Values, posterior: Values) -> Psf:
    """The PSF of a log probability (widths, shapes)."""
    share = np.exp(posterior - posterior.max())
    share /= share.sum()
    width = math.exp(float(share.sum(axis=1) @ np.log(widths)))
    shape = float(share.sum(axis=0) @ shapes)
    templates = _templates(width, shape, STAMP_RADIUS)
    middle = templates[len(templates) // 2]
    power = float(np.sum(middle**2))
    likely = share > _LEAST_SHARE * share.max()
    # The flux of a source of profile q that is fitted with profile p comes out as its flux times
    # sum(p q) / sum(p p).
    overlaps = _octants(tuple(widths), tuple(shapes))[likely] @ _octant_of(middle)
    factors = power / overlaps
    weights = share[likely] / share[likely].sum()
    scale = float(weights @ factors)
    scatter = math.sqrt(max(float(weights @ (factors - scale) ** 2), 0.0)) / scale
    return Psf(
        width,
        templates.astype(np.float32),
        scale=scale,
        error=math.hypot(scatter, _FAMILY_ERROR),
    )


def _offsets() -> list[tuple[float, float]]:
    steps = np.linspace(-_REACH, _REACH, _STEPS).tolist()
    return [(dx, dy) for dy in steps for dx in steps]


def _octant_of(middle: Values) -> Values:
    """Sums of a centred profile over the pixels that lie alike, float64 (91,), as `_octants`."""
    radius = STAMP_RADIUS
    corner = middle[radius:, radius:]
    # Of an octant with its borders: pixels on an axis or a diagonal lie alike with three others.
    rows, columns = np.tril_indices(radius + 1)
    alike = np.where((columns == 0) | (rows == columns), 4.0, 8.0)
    alike[0] = 1.0
    return np.asarray(corner[rows, columns] * alike)


@lru_cache(maxsize=4)  # a stamp with hardly a source has the widest grid, and always the same
def _octants(widths: tuple[float, ...], shapes: tuple[float, ...]) -> Values:
    """Centred profiles at the pixels of an octant, row by row, float64 (widths, shapes, 91)."""
    return _octants_of(np.array(widths), np.array(shapes), STAMP_RADIUS)


@compiled
def _octants_of(widths: Values, shapes: Values, radius: int) -> Values:
    """What `_octants` answers, for stamps of a radius."""
    found = np.empty((len(widths), len(shapes), (radius + 1) * (radius + 2) // 2))
    for i in range(len(widths)):
        for j in range(len(shapes)):
            pixel = 0
            for row in range(radius + 1):
                for column in range(row + 1):
                    radius2 = float(row * row + column * column)
                    found[i, j, pixel] = _moffat(widths[i], shapes[j], radius2)
                    pixel += 1
    return found


@compiled
def _templates(width: float, shape: float, radius: int) -> Values:
    """A profile at every offset that is tabulated, float64 (289, 25, 25), x fastest.

    Offsets are whole numbers of steps, and so are distances along an axis: few differ.
    """
    per_pixel = _STEPS // 2
    farthest = (radius + 1) * per_pixel + 1
    at = np.empty((farthest, farthest))
    for row in range(farthest):
        for column in range(row + 1):
            radius2 = (row * row + column * column) * (_REACH / per_pixel) ** 2
            at[row, column] = at[column, row] = _moffat(width, shape, radius2)
    side = 2 * radius + 1
    found = np.empty((_STEPS * _STEPS, side, side))
    for k in range(len(found)):
        dy, dx = k // _STEPS - per_pixel, k % _STEPS - per_pixel
        for row in range(side):
            y = abs((row - radius) * per_pixel - dy)
            for column in range(side):
                x = abs((column - radius) * per_pixel - dx)
                found[k, row, column] = at[y, x]
    return found


@compiled
def _moffat(width: float, shape: float, radius2: float) -> float:
    """A Moffat function of unit flux, at the square of a distance in pixels."""
    if shape < 1e-3:
        rate = 4.0 * math.log(2.0) / width**2
        return rate / math.pi * math.exp(-rate * radius2)
    alpha2 = width**2 / (4.0 * (2.0**shape - 1.0))
    peak = (1.0 / shape - 1.0) / (math.pi * alpha2)
    value: float = peak * math.exp(-math.log(1.0 + radius2 / alpha2) / shape)
    return value


@compiled
def nearest(offset: NDArray[np.float64], steps: int) -> tuple[int, int]:
    """Row and column of the template, of ``steps`` along an axis, that is nearest to an offset."""
    middle = steps // 2
    per_pixel = middle / _REACH
    column = middle + int(np.rint(offset[0] * per_pixel))
    row = middle + int(np.rint(offset[1] * per_pixel))
    return min(max(row, 0), steps - 1), min(max(column, 0), steps - 1)


@compiled
def climb(stamp: Image, templates: Image, row: int, column: int) -> tuple[int, int]:
    """The template that fits a stamp best, row and column, step by step from one that is near."""
    steps = round(np.sqrt(len(templates)))
    power, projection = project(stamp, templates[row * steps + column])
    best = projection**2 / power
    for _ in range(2 * steps):
        to_row, to_column = row, column
        for step in range(4):
            i = row + (step == 0) - (step == 1)
            j = column + (step == 2) - (step == 3)
            if min(i, j) < 0 or max(i, j) >= steps:
                continue
            here, there = project(stamp, templates[i * steps + j])
            if here > 0.0 and there * projection > 0.0 and there**2 / here > best:
                best, to_row, to_column = there**2 / here, i, j
        if to_row == row and to_column == column:
            break
        row, column = to_row, to_column
    return row, column


@compiled
def project(stamp: Image, template: Image) -> tuple[float, float]:
    """Sums over the usable pixels of p^2 and p d, of a template p and values d."""
    power = projection = 0.0
    for i in range(stamp.shape[0]):
        for j in range(stamp.shape[1]):
            value, model = np.float64(stamp[i, j]), np.float64(template[i, j])
            if abs(value) < np.inf:
                power += model * model
                projection += model * value
    return power, projection


@compiled
def _recentred(stamps: Image, offsets: Positions, templates: Image) -> Positions:
    """Where sources fit a PSF best, pixels from the middles of their stamps."""
    found = offsets.copy()
    steps = round(np.sqrt(len(templates)))
    middle = steps // 2
    for k in range(len(stamps)):
        row, column = nearest(offsets[k], steps)
        power, _ = project(stamps[k], templates[row * steps + column])
        if power > 0.0:
            row, column = climb(stamps[k], templates, row, column)
            found[k, 0] = (column - middle) * _REACH / middle
            found[k, 1] = (row - middle) * _REACH / middle
    return found


@compiled
def _log_likelihoods(
    stamps: Image, offsets: Positions, grid: Values, background_error: float
) -> Values:
    """Of profiles (G, 2) of width and 1 / beta in white noise of 1, float64 (S, G).

    That of the best flux and background, without what all profiles have in common (Gaussian noise).
    """
    found = np.zeros((len(stamps), len(grid)))
    radius = stamps.shape[1] // 2
    for g in range(len(grid)):
        width, shape = grid[g]
        gaussian = shape < 1e-3
        rate = 4.0 * math.log(2.0) / width**2
        if not gaussian:
            rate = 4.0 * (2.0**shape - 1.0) / width**2
        power_of = 0.0 if gaussian else -1.0 / shape
        for k in range(len(stamps)):
            power = projection = one = values = 0.0
            number = 1.0 / background_error**2
            for i in range(stamps.shape[1]):
                dy = i - radius - offsets[k, 1]
                for j in range(stamps.shape[2]):
                    value = np.float64(stamps[k, i, j])
                    dx = j - radius - offsets[k, 0]
                    radius2 = dx * dx + dy * dy
                    if radius2 > radius * radius or not abs(value) < np.inf:
                        continue
                    if gaussian:
                        model = math.exp(-rate * radius2)
                    else:
                        model = math.exp(power_of * math.log(1.0 + rate * radius2))
                    power += model * model
                    projection += model * value
                    number += 1.0
                    one += model
                    values += value
            # What a background of that error explains, and what the profile does beside it.
            power -= one * one / number
            projection -= one * values / number
            if power > 0.0:
                found[k, g] = 0.5 * (projection**2 / power + values**2 / number)
    return found


def _width(pixels: NDArray[np.float64]) -> float:
    """FWHM of an image of a PSF: diameter of the circle as large as what is above half its peak."""
    row, column = np.unravel_index(pixels.argmax(), pixels.shape)
    reach = 2 * STAMP_SIDE
    low, left = max(0, int(row) - reach), max(0, int(column) - reach)
    core = np.pad(pixels[low : int(row) + reach + 1, left : int(column) + reach + 1], 2)
    fine = ndimage.zoom(core, _OVERSAMPLING, order=3)
    area = np.count_nonzero(fine > 0.5 * fine.max()) * core.size / fine.size
    return 2.0 * math.sqrt(area / math.pi)


def _centroid(pixels: NDArray[np.float64], fwhm: float) -> tuple[float, float]:
    """Of the light around the peak, under a Gaussian window of the PSF's width."""
    row, column = (float(place) for place in np.unravel_index(pixels.argmax(), pixels.shape))
    rows, columns = np.indices(pixels.shape)
    sigma2 = max(fwhm / 2.3548, 1.0) ** 2
    for _ in range(20):
        weight = pixels * np.exp(-0.5 * ((rows - row) ** 2 + (columns - column) ** 2) / sigma2)
        step_y = 2.0 * float(np.sum(weight * (rows - row)) / np.sum(weight))
        step_x = 2.0 * float(np.sum(weight * (columns - column)) / np.sum(weight))
        row, column = row + step_y, column + step_x
        if math.hypot(step_x, step_y) < 1e-4:
            break
    return column, row
