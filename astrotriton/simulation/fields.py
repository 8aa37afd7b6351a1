"""Difference exposures with known truth.

One scene is seen twice, through another PSF, to another depth and with a sub-pixel shift; the
sharper epoch is convolved to the other's PSF with a slightly wrong kernel; then they are
subtracted. Dipoles and residuals of bright stars arise by themselves, as they do in real difference
imaging (Alard & Lupton 1998). What brightens is in the new epoch alone, what fades in the old one;
cosmic rays, satellite trails, bad columns and gaps are added to the new epoch only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft

from astrotriton.simulation import artefacts
from astrotriton.simulation.noise import Noise, random_noise
from astrotriton.simulation.psf import FloatArray, Psf, random_moffat
from astrotriton.simulation.recipe import ARTEFACTS, Recipe, log_uniform
from astrotriton.simulation.scene import Epoch, add_constant_sources, add_transients
from astrotriton.simulation.truth import Source

Image = NDArray[np.float32]

_SKY = 100.0  # level of either epoch, in units of the new one's sky noise
_FWHM = (1.1, 12.0)  # of the old epoch, pixels


@dataclass(frozen=True, slots=True)
class Field:
    """A simulated difference exposure.

    Attributes
    ----------
    difference
        float32 (H, W), counts; NaN in gaps.
    science
        float32 (H, W), the new epoch, counts.
    template
        float32 (H, W), the old epoch, counts of the same scale: on the pixels of the new one but
        for the misregistration, with a PSF and a noise of its own; NaN in gaps, as science has
        them.
    truth
        Everything that was put in.
    fwhm
        Full width at half maximum of the difference's PSF, pixels.
    """

    difference: Image
    science: Image
    template: Image
    fwhm: float
    truth: list[Source] = field(default_factory=list)

    def of_kind(self, *kinds: str) -> list[Source]:
        """The true sources of these kinds."""
        return [source for source in self.truth if source.kind in kinds]


def simulate(
    seed: int,
    recipe: Recipe = ARTEFACTS,
    psf: Callable[[Generator, float], Psf] = random_moffat,
) -> Field:
    """Make one field; the same seed and recipe give the same field.

    Parameters
    ----------
    seed
        Seed of numpy's default generator.
    recipe
        What the field holds.
    psf
        Makes a random PSF of a given FWHM in pixels.
    """
    rng = np.random.default_rng(seed)
    shape = recipe.shape
    # Everything is drawn in units of the new epoch's sky noise; the last line scales to counts.
    fwhm = log_uniform(rng, recipe.fwhm)
    new_psf = psf(rng, fwhm)
    ratio = float(np.exp(rng.normal(0.0, recipe.fwhm_scatter)))
    old_psf = psf(rng, float(np.clip(fwhm * ratio, *_FWHM)))
    noise = random_noise(rng, recipe)
    # Without constant sources there is nothing to match.
    matched = recipe.stars[1] > 0
    if not matched:
        old_psf = new_psf
    wide, sharp = (new_psf, old_psf) if new_psf.fwhm >= old_psf.fwhm else (old_psf, new_psf)
    angle, shift = rng.uniform(0, 2 * np.pi), rng.uniform(*recipe.shift)
    shift_x, shift_y = float(shift * np.cos(angle)), float(shift * np.sin(angle))

    truth: list[Source] = []
    new, old = Epoch(np.zeros(shape), new_psf), Epoch(np.zeros(shape), old_psf, shift_x, shift_y)
    hosts = add_constant_sources(rng, recipe, new, old, truth)
    np.multiply(old.image, 1.0 + float(rng.normal(0.0, recipe.scale_error)), out=old.image)
    per_flux = _snr_per_flux(new_psf, old_psf, noise, shape)
    # A transient lies where truth says in either epoch: the new one's pixels are the difference's.
    add_transients(rng, recipe, new, replace(old, x=0.0, y=0.0), noise, per_flux, hosts, truth)
    artefacts.add_trails(rng, recipe, new.image, new_psf, truth)

    full_well = log_uniform(rng, recipe.saturation)
    np.add(new.image, noise.of_new(rng, new.image), out=new.image)
    np.add(old.image, noise.of_old(rng, old.image), out=old.image)
    artefacts.add_cosmic_rays(rng, recipe, new.image, truth)
    saturated = artefacts.saturate(new.image, full_well, truth)
    # Another night's sky and exposure time: another level.
    saturated |= artefacts.saturate(old.image, full_well * float(rng.uniform(0.7, 1.5)), truth)
    truth = [_marked(source, saturated) for source in truth]
    science, template = new.image.copy(), old.image.copy()

    difference = new.image - old.image
    if matched:
        error = 1.0 + rng.normal(0.0, recipe.kernel_error, size=2)
        kernel = _matching_kernel(
            wide.stretched(float(error[0])), sharp.stretched(float(error[1])), shape
        )
        if wide is new_psf:
            difference = new.image - _convolve(old.image, kernel)
        else:
            difference = _convolve(new.image, kernel) - old.image
    difference += _background(rng, shape)
    artefacts.add_bad_columns(rng, recipe, difference, truth)
    truth = artefacts.cut_gaps(rng, recipe, difference, truth)

    counts = log_uniform(rng, (0.01, 100.0))
    return Field(
        difference=(difference * counts).astype(np.float32),
        science=_epoch(science, difference, counts),
        template=_epoch(template, difference, counts),
        fwhm=wide.fwhm,
        truth=truth,
    )


def _epoch(image: FloatArray, difference: FloatArray, counts: float) -> Image:
    """An epoch with its sky, in counts, without the pixels that the difference lacks."""
    seen = ((image + _SKY) * counts).astype(np.float32)
    seen[np.isnan(difference)] = np.nan
    return seen


def _snr_per_flux(new: Psf, old: Psf, noise: Noise, shape: tuple[int, int]) -> float:
    """Matched-filter SNR of a source of unit flux in the difference, for unit noise in ``new``.

    The best linear filter reaches SNR^2 = F^2 sum_k |P_k|^2 / N_k, with P the PSF's transform and N
    the noise power. Matching convolves PSF and noise of one epoch alike, so both cases come down to
    the new epoch's PSF over the sum of its noise and of the old epoch's, seen through the kernel
    that takes the old PSF to the new one.
    """
    new_power, old_power = (np.abs(fft.fft2(psf.image(shape))) ** 2 for psf in (new, old))
    of_new, of_old = noise.powers(shape)
    noise_power = of_new + of_old * new_power / np.maximum(old_power, 1e-12)
    return float(np.sqrt(np.mean(new_power / noise_power)))


def _marked(source: Source, saturated: NDArray[np.bool_]) -> Source:
    """The source, which is saturated where a pixel of its peak is in either epoch."""
    if not source.polarity:
        return source
    row, column = round(source.y), round(source.x)
    peak = saturated[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
    return replace(source, saturated=bool(peak.any()))


def _background(rng: Generator, shape: tuple[int, int]) -> FloatArray:
    """What is left of the sky: an offset and a slope over the field."""
    y, x = np.mgrid[-0.5 : 0.5 : shape[0] * 1j, -0.5 : 0.5 : shape[1] * 1j]
    offset, slope_x, slope_y = rng.normal(0.0, [20.0, 1.5, 1.5])
    level: FloatArray = offset + slope_x * x + slope_y * y
    return level


def _matching_kernel(wide: Psf, sharp: Psf, shape: tuple[int, int]) -> NDArray[np.complex128]:
    """Fourier transform of the kernel that takes ``sharp`` to ``wide``, regularised (Wiener)."""
    target, source = fft.rfft2(wide.image(shape)), fft.rfft2(sharp.image(shape))
    kernel: NDArray[np.complex128] = target * np.conj(source) / (np.abs(source) ** 2 + 1e-3)
    result: NDArray[np.complex128] = kernel / kernel[0, 0].real
    return result


def _convolve(image: FloatArray, kernel: NDArray[np.complex128]) -> FloatArray:
    convolved: FloatArray = fft.irfft2(fft.rfft2(image) * kernel, s=image.shape)
    return convolved
