"""The noise of both epochs: correlated where they were resampled, and not the same everywhere."""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import fft, ndimage

from astrotriton.simulation.psf import FloatArray
from astrotriton.simulation.recipe import Recipe, log_uniform

_GAIN = 100.0  # flux at which photon noise is as strong as the sky's, for a gain of 1


@dataclass(frozen=True, slots=True)
class Noise:
    """How noise is drawn, in units of the new epoch's sky noise.

    Attributes
    ----------
    old
        Sky noise of the old epoch; 0 if only its sources have noise.
    gain
        Photon noise of a source, see `_GAIN`.
    level
        float64 (H, W), by which noise is scaled, about 1.
    new_shift, old_shift
        By how much each epoch was resampled along y and x, pixels; linear interpolation.
    """

    old: float
    gain: float
    level: FloatArray
    new_shift: tuple[float, float] = (0.0, 0.0)
    old_shift: tuple[float, float] = (0.0, 0.0)

    def of_new(self, rng: Generator, image: FloatArray) -> FloatArray:
        """Noise for the new epoch."""
        variance = 1.0 + self.gain * np.maximum(image, 0.0) / _GAIN
        return self._drawn(rng, variance, self.new_shift)

    def of_old(self, rng: Generator, image: FloatArray) -> FloatArray:
        """Noise for the old epoch."""
        # A deeper epoch counted more photons of its sources, too.
        photons = self.gain * (self.old**2 if self.old else 1.0)
        variance = self.old**2 + photons * np.maximum(image, 0.0) / _GAIN
        return self._drawn(rng, variance, self.old_shift)

    def powers(self, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        """Power of the sky noise of either epoch by wave number, float64 (H, W), as `fft2` has."""
        return _power(shape, self.new_shift), self.old**2 * _power(shape, self.old_shift)

    def _drawn(
        self, rng: Generator, variance: FloatArray, shift: tuple[float, float]
    ) -> FloatArray:
        drawn: FloatArray = rng.normal(size=variance.shape) * np.sqrt(variance) * self.level
        for axis, fraction in enumerate(shift):
            if fraction:
                ndimage.correlate1d(
                    drawn, [1.0 - fraction, fraction], axis, drawn, mode="nearest", origin=-1
                )
        return drawn


def random_noise(rng: Generator, recipe: Recipe) -> Noise:
    """Draw how noisy a field is."""
    # Without constant sources nothing is subtracted, and the old epoch has no sky.
    old = float(rng.uniform(0.1, 0.8)) if recipe.stars[1] else 0.0
    gain = log_uniform(rng, (0.02, 2.0))
    level = np.ones(recipe.shape)
    if rng.random() < recipe.uneven:
        level = _uneven(rng, recipe)
    shifts = ((0.0, 0.0), (0.0, 0.0))
    if rng.random() < recipe.resampled:
        drawn = rng.uniform(0.0, 0.5, size=(2, 2))
        shifts = (tuple(drawn[0].tolist()), tuple(drawn[1].tolist()))
    return Noise(old, gain, level, *shifts)


def _uneven(rng: Generator, recipe: Recipe) -> FloatArray:
    """A step from amplifier to amplifier or at a dither's border, or a slope."""
    height, width = recipe.shape
    y, x = np.mgrid[:height, :width]
    along, length = (x, width) if rng.random() < 0.5 else (y, height)
    factor = log_uniform(rng, (1.0, recipe.uneven_by))
    step = rng.random() < 0.6
    rise = along >= rng.uniform(0.15, 0.85) * length if step else along / length
    level: FloatArray = factor ** np.asarray(rise, float)
    if rng.random() < 0.5:
        level = level[::-1, ::-1]
    return level / np.median(level)


def _power(shape: tuple[int, int], shift: tuple[float, float]) -> FloatArray:
    down, across = (
        np.abs(1.0 - fraction + fraction * np.exp(-2j * np.pi * fft.fftfreq(length))) ** 2
        for length, fraction in zip(shape, shift, strict=True)
    )
    return np.outer(down, across)
