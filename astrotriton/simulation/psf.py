"""Point spread functions that the simulator renders sources with."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft

FloatArray = NDArray[np.float64]

# Points along each axis of a pixel at which a PSF narrower than so many pixels is evaluated.
_STEPS = ((2.0, 5), (4.0, 3))
_CORE = 8.0  # radius of what is averaged, pixels


class Psf(Protocol):
    """A PSF of unit flux, sampled at pixel centres or integrated over pixels as its family does."""

    @property
    def fwhm(self) -> float:
        """Full width at half maximum along the major axis, pixels."""

    def add(self, image: FloatArray, x: float, y: float, flux: float, radius: int) -> None:
        """Add a point source of this flux to (H, W), out to ``radius`` pixels."""

    def add_galaxy(
        self, image: FloatArray, x: float, y: float, flux: float, shape: "GalaxyShape"
    ) -> None:
        """Add a galaxy of this flux, seen through the PSF."""

    def image(self, shape: tuple[int, int]) -> FloatArray:
        """The PSF centred on pixel (0, 0) of a periodic (H, W) image, of unit sum, as FFTs want."""

    def stretched(self, factor: float) -> "Psf":
        """The same PSF ``factor`` times as wide."""


@dataclass(frozen=True, slots=True)
class GalaxyShape:
    """``size`` in units of the PSF's FWHM, ``axis_ratio``, and ``angle`` in radians."""

    size: float
    axis_ratio: float
    angle: float


class _Sampled:
    """What the PSFs share that are a formula, averaged over pixels where they are sharp."""

    __slots__ = ()
    fwhm: float

    def __call__(self, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Value per pixel at offsets from the centre, pixels."""
        raise NotImplementedError

    def image(self, shape: tuple[int, int]) -> FloatArray:
        """The PSF centred on pixel (0, 0) of a periodic (H, W) image, as an FFT wants it."""
        y, x = (fft.fftfreq(n, 1.0 / n) for n in shape)
        psf = self._over_pixels(x[None, :], y[:, None])
        normalised: FloatArray = psf / psf.sum()
        return normalised

    def _over_pixels(self, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Means over pixels at offsets (1, W) and (H, 1) from the centre, (H, W).

        A sharp PSF changes within a pixel, in its core most of all.
        """
        values = self(dx, dy)
        steps = next((steps for fwhm, steps in _STEPS if self.fwhm < fwhm), 1)
        if steps > 1:
            columns, rows = (np.flatnonzero(np.abs(one.ravel()) <= _CORE) for one in (dx, dy))
            core_x, core_y = dx[:, columns], dy[rows]
            within = (np.arange(steps) + 0.5) / steps - 0.5
            fine = self(
                (core_x.T + within).reshape(1, -1),
                (core_y + within).reshape(-1, 1),
            )
            parts = fine.reshape(len(rows), steps, len(columns), steps)
            values[np.ix_(rows, columns)] = parts.mean(axis=(1, 3))
        return values

    def add(self, image: FloatArray, x: float, y: float, flux: float, radius: int) -> None:
        """Add a point source, averaged over the pixels where it is sharp."""
        height, width = image.shape
        column, row = round(x), round(y)
        left, right = max(0, column - radius), min(width, column + radius + 1)
        low, high = max(0, row - radius), min(height, row + radius + 1)
        if left < right and low < high:
            dx = np.arange(left, right, dtype=float)[None, :] - x
            dy = np.arange(low, high, dtype=float)[:, None] - y
            image[low:high, left:right] += flux * self._over_pixels(dx, dy)


@dataclass(frozen=True, slots=True)
class Moffat(_Sampled):
    """An elliptical Moffat PSF (Moffat 1969): (1 + r^2/alpha^2)^-beta, of unit sum.

    ``fwhm`` in pixels along the major axis, ``angle`` in radians.
    """

    fwhm: float
    beta: float
    axis_ratio: float = 1.0
    angle: float = 0.0

    def __call__(self, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Value per pixel at offsets from the centre, pixels."""
        alpha = self.fwhm / (2.0 * np.sqrt(2.0 ** (1.0 / self.beta) - 1.0))
        radius2 = _radius2(dx, dy, self.axis_ratio, self.angle) / alpha**2
        peak = (self.beta - 1.0) / (np.pi * alpha * alpha * self.axis_ratio)
        profile: FloatArray = peak * (1.0 + radius2) ** -self.beta
        return profile

    def add_galaxy(
        self, image: FloatArray, x: float, y: float, flux: float, shape: GalaxyShape
    ) -> None:
        """Add a galaxy: convolved with the seeing it is near enough a broader, flatter Moffat."""
        _add_galaxy(image, x, y, flux, self.fwhm, shape)

    def stretched(self, factor: float) -> "Moffat":
        """The same PSF ``factor`` times as wide."""
        return Moffat(self.fwhm * factor, self.beta, self.axis_ratio, self.angle)


@dataclass(frozen=True, slots=True)
class DoubleGaussian(_Sampled):
    """A core and a wider halo, as SDSS describes its PSF (Lupton et al. 2001), of unit sum.

    ``fwhm`` of the core in pixels along the major axis, ``halo`` the halo's share of the flux,
    ``spread`` its width in units of the core's, ``angle`` in radians.
    """

    fwhm: float
    halo: float
    spread: float = 2.5
    axis_ratio: float = 1.0
    angle: float = 0.0

    def __call__(self, dx: FloatArray, dy: FloatArray) -> FloatArray:
        """Value per pixel at offsets from the centre, pixels."""
        variance = self.fwhm**2 / (8.0 * np.log(2.0))
        radius2 = _radius2(dx, dy, self.axis_ratio, self.angle)
        profile: FloatArray = np.zeros(np.broadcast(dx, dy).shape)
        for share, wider in ((1.0 - self.halo, 1.0), (self.halo, self.spread**2)):
            peak = share / (2.0 * np.pi * variance * wider * self.axis_ratio)
            profile += peak * np.exp(-radius2 / (2.0 * variance * wider))
        return profile

    def add_galaxy(
        self, image: FloatArray, x: float, y: float, flux: float, shape: GalaxyShape
    ) -> None:
        """Add a galaxy, which the core widens as a Moffat of its width would."""
        _add_galaxy(image, x, y, flux, self.fwhm, shape)

    def stretched(self, factor: float) -> "DoubleGaussian":
        """The same PSF ``factor`` times as wide."""
        return DoubleGaussian(
            self.fwhm * factor, self.halo, self.spread, self.axis_ratio, self.angle
        )


def _radius2(dx: FloatArray, dy: FloatArray, axis_ratio: float, angle: float) -> FloatArray:
    """Squared distance from the centre, in pixels along the major axis."""
    cos, sin = np.cos(angle), np.sin(angle)
    along, across = dx * cos + dy * sin, (dy * cos - dx * sin) / axis_ratio
    squared: FloatArray = along * along + across * across
    return squared


def _add_galaxy(
    image: FloatArray, x: float, y: float, flux: float, fwhm: float, shape: GalaxyShape
) -> None:
    seen = Moffat(fwhm * shape.size, 2.5, shape.axis_ratio, shape.angle)
    seen.add(image, x, y, flux, int(np.clip(5 * seen.fwhm, 10, 80)))


def random_moffat(rng: Generator, fwhm: float) -> Moffat:
    """A Moffat PSF of this FWHM with a random exponent and ellipticity."""
    return Moffat(
        fwhm,
        float(rng.uniform(2.5, 5.0)),
        float(rng.uniform(0.85, 1.0)),
        float(rng.uniform(0, np.pi)),
    )


def random_double_gaussian(rng: Generator, fwhm: float) -> DoubleGaussian:
    """A double Gaussian of this FWHM with a random halo and ellipticity."""
    return DoubleGaussian(
        fwhm,
        float(rng.uniform(0.0, 0.4)),
        float(rng.uniform(1.5, 3.5)),
        float(rng.uniform(0.85, 1.0)),
        float(rng.uniform(0, np.pi)),
    )
