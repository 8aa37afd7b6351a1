"""Point spread functions that the simulator renders sources with."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft

FloatArray = NDArray[np.float64]


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


@dataclass(frozen=True, slots=True)
class Moffat:
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
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        along = (dx * cos + dy * sin) / alpha
        across = (dy * cos - dx * sin) / (alpha * self.axis_ratio)
        peak = (self.beta - 1.0) / (np.pi * alpha * alpha * self.axis_ratio)
        profile: FloatArray = peak * (1.0 + along * along + across * across) ** -self.beta
        return profile

    def image(self, shape: tuple[int, int]) -> FloatArray:
        """The PSF centred on pixel (0, 0) of a periodic (H, W) image, as an FFT wants it."""
        y, x = (fft.fftfreq(n, 1.0 / n) for n in shape)
        psf = self(*np.meshgrid(x, y))
        normalised: FloatArray = psf / psf.sum()
        return normalised

    def add(self, image: FloatArray, x: float, y: float, flux: float, radius: int) -> None:
        """Add a point source, sampled at the pixels' centres."""
        height, width = image.shape
        column, row = round(x), round(y)
        left, right = max(0, column - radius), min(width, column + radius + 1)
        low, high = max(0, row - radius), min(height, row + radius + 1)
        if left < right and low < high:
            dx = np.arange(left, right, dtype=float)[None, :] - x
            dy = np.arange(low, high, dtype=float)[:, None] - y
            image[low:high, left:right] += flux * self(dx, dy)

    def add_galaxy(
        self, image: FloatArray, x: float, y: float, flux: float, shape: GalaxyShape
    ) -> None:
        """Add a galaxy: convolved with the seeing it is near enough a broader, flatter Moffat."""
        seen = Moffat(self.fwhm * shape.size, 2.5, shape.axis_ratio, shape.angle)
        seen.add(image, x, y, flux, int(np.clip(5 * seen.fwhm, 10, 80)))

    def stretched(self, factor: float) -> "Moffat":
        """The same PSF ``factor`` times as wide."""
        return Moffat(self.fwhm * factor, self.beta, self.axis_ratio, self.angle)


def random_moffat(rng: Generator, fwhm: float) -> Moffat:
    """A Moffat PSF of this FWHM with a random exponent and ellipticity."""
    return Moffat(
        fwhm,
        float(rng.uniform(2.5, 5.0)),
        float(rng.uniform(0.85, 1.0)),
        float(rng.uniform(0, np.pi)),
    )
