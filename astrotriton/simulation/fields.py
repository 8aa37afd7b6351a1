"""Difference exposures with known truth.

One scene is seen twice, through another PSF, to another depth and with a sub-pixel shift; the
sharper epoch is convolved to the other's PSF with a slightly wrong kernel; then they are
subtracted. Dipoles and residuals of bright stars arise by themselves, as they do in real difference
imaging (Alard & Lupton 1998). Transients, cosmic rays, satellite trails, bad columns, saturation
and gaps are added to the new epoch only.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import fft

from astrotriton.simulation.psf import FloatArray, GalaxyShape, Psf, random_moffat

Image = NDArray[np.float32]

_LEAVES_RESIDUAL = 1500.0  # flux of a constant source in units of the sky noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a simulated field holds; pairs are ranges from which each field draws.

    Attributes
    ----------
    shape
        Rows and columns, pixels.
    fwhm
        Seeing of each epoch, pixels.
    transients
        Number of injected transients.
    snr
        Their matched-filter signal-to-noise ratio, drawn uniformly.
    separation
        Least distance of a transient from others and from the edges, pixels; with 0 they lie
        anywhere.
    negative
        Share of transients that fade, so that they are negative and not to be found.
    stars, galaxies
        Number of constant sources, whose residuals are the dipoles.
    shift
        Misregistration of the epochs, pixels.
    kernel_error
        Relative error of the PSF widths that the matching kernel is made from.
    cosmic_rays, trails, bad_columns, gaps
        Number of each artefact.
    saturation
        Full well, in units of the sky noise.
    """

    shape: tuple[int, int] = (512, 512)
    fwhm: tuple[float, float] = (2.0, 6.5)
    transients: tuple[int, int] = (10, 40)
    snr: tuple[float, float] = (3.0, 30.0)
    separation: float = 0.0
    negative: float = 0.1
    stars: tuple[int, int] = (20, 400)
    galaxies: tuple[int, int] = (5, 60)
    shift: tuple[float, float] = (0.05, 0.4)
    kernel_error: float = 0.03
    cosmic_rays: tuple[int, int] = (0, 40)
    trails: tuple[int, int] = (0, 2)
    bad_columns: tuple[int, int] = (0, 4)
    gaps: tuple[int, int] = (0, 2)
    saturation: tuple[float, float] = (2e3, 2e4)


ARTEFACTS = Recipe()
NOISE_ONLY = Recipe(
    stars=(0, 0),
    galaxies=(0, 0),
    cosmic_rays=(0, 0),
    trails=(0, 0),
    bad_columns=(0, 0),
    gaps=(0, 0),
    negative=0.0,
)


def mixed_recipe(index: int) -> Recipe:
    """The recipe of a field of a mixed set: one in four holds noise and transients only."""
    return NOISE_ONLY if index % 4 == 3 else ARTEFACTS


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that was put into a field: its kind, its centre and, for a transient, its SNR."""

    kind: str
    x: float
    y: float
    snr: float = 0.0


@dataclass(frozen=True, slots=True)
class Field:
    """A simulated difference exposure.

    Attributes
    ----------
    difference
        float32 (H, W), counts; NaN in gaps.
    science
        float32 (H, W), the new epoch, counts.
    truth
        Everything that was put in. Kinds: ``transient``, ``fading``, ``dipole`` (a constant
        source bright enough to leave a residual), ``cosmic_ray``, ``trail``, ``bad_column``,
        ``saturated``.
    fwhm
        Full width at half maximum of the difference's PSF, pixels.
    """

    difference: Image
    science: Image
    fwhm: float
    truth: list[Source] = field(default_factory=list)

    def of_kind(self, *kinds: str) -> list[Source]:
        """The true sources of these kinds."""
        return [source for source in self.truth if source.kind in kinds]


def _count(rng: Generator, bounds: tuple[int, int]) -> int:
    return int(rng.integers(bounds[0], bounds[1], endpoint=True))


def _position(rng: Generator, shape: tuple[int, int]) -> tuple[float, float]:
    return float(rng.uniform(0, shape[1] - 1)), float(rng.uniform(0, shape[0] - 1))


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
    new_psf, old_psf = (psf(rng, float(rng.uniform(*recipe.fwhm))) for _ in range(2))
    # Without constant sources there is nothing to match, and the noise stays white.
    old_noise = float(rng.uniform(0.1, 0.8)) if recipe.stars[1] else 0.0
    gain = float(np.exp(rng.uniform(np.log(0.02), np.log(2.0))))
    scale_error = float(rng.normal(0.0, 0.01))
    angle, shift = rng.uniform(0, 2 * np.pi), rng.uniform(*recipe.shift)
    shift_x, shift_y = float(shift * np.cos(angle)), float(shift * np.sin(angle))

    new: FloatArray = np.zeros(shape)
    old: FloatArray = np.zeros(shape)
    truth: list[Source] = []
    hosts = _constant_sources(rng, recipe, new, old, (new_psf, old_psf), (shift_x, shift_y), truth)
    old *= 1.0 + scale_error

    wide, sharp = (new_psf, old_psf) if new_psf.fwhm >= old_psf.fwhm else (old_psf, new_psf)
    matched = recipe.stars[1] > 0
    per_flux = _snr_per_flux(new_psf, old_psf, old_noise, shape)
    _transients(rng, recipe, new, new_psf, per_flux, hosts, truth)
    _trails(rng, recipe, new, new_psf, truth)

    full_well = float(rng.uniform(*recipe.saturation))
    new += rng.normal(size=shape) * np.sqrt(1.0 + gain * np.maximum(new, 0.0) / 100.0)
    if old_noise:
        old += (
            old_noise * rng.normal(size=shape) * np.sqrt(1.0 + gain * np.maximum(old, 0.0) / 100.0)
        )
    _cosmic_rays(rng, recipe, new, truth)
    _saturate(new, full_well, truth)
    science = new.copy()

    if matched:
        error = 1.0 + rng.normal(0.0, recipe.kernel_error, size=2)
        kernel = _matching_kernel(
            wide.stretched(float(error[0])), sharp.stretched(float(error[1])), shape
        )
        if wide is new_psf:
            old = _convolve(old, kernel)
        else:
            new = _convolve(new, kernel)
    difference = new - old
    difference += _background(rng, shape)
    _bad_columns(rng, recipe, difference, truth)
    _gaps(rng, recipe, difference, truth)

    counts = float(np.exp(rng.uniform(np.log(0.01), np.log(100.0))))
    return Field(
        difference=(difference * counts).astype(np.float32),
        science=((science + 100.0) * counts).astype(np.float32),
        fwhm=wide.fwhm if matched else new_psf.fwhm,
        truth=truth,
    )


def _constant_sources(
    rng: Generator,
    recipe: Recipe,
    new: FloatArray,
    old: FloatArray,
    psfs: tuple[Psf, Psf],
    shift: tuple[float, float],
    truth: list[Source],
) -> list[tuple[float, float]]:
    """Render stars and galaxies into both epochs; the positions of the galaxies, as hosts."""
    hosts = []
    for _ in range(_count(rng, recipe.stars)):
        x, y = _position(rng, recipe.shape)
        # Star counts rise about threefold a magnitude fainter, here as a power law of the flux.
        flux = float(min(40.0 * rng.pareto(0.7) + 40.0, 4e5))
        radius = int(np.clip(4 * psfs[0].fwhm + 3.0 * flux**0.25, 8, 80))
        psfs[0].add(new, x, y, flux, radius)
        psfs[1].add(old, x + shift[0], y + shift[1], flux, radius)
        if flux > _LEAVES_RESIDUAL:
            truth.append(Source("dipole", x, y))
    for _ in range(_count(rng, recipe.galaxies)):
        x, y = _position(rng, recipe.shape)
        flux = float(min(200.0 * rng.pareto(1.0) + 200.0, 1e5))
        shape = GalaxyShape(
            float(rng.uniform(1.2, 3.0)), float(rng.uniform(0.3, 1.0)), float(rng.uniform(0, np.pi))
        )
        psfs[0].add_galaxy(new, x, y, flux, shape)
        psfs[1].add_galaxy(old, x + shift[0], y + shift[1], flux, shape)
        hosts.append((x, y))
        if flux > _LEAVES_RESIDUAL:
            truth.append(Source("dipole", x, y))
    return hosts


def _snr_per_flux(new: Psf, old: Psf, old_noise: float, shape: tuple[int, int]) -> float:
    """Matched-filter SNR of a source of unit flux in the difference, for unit noise in ``new``.

    The best linear filter reaches SNR^2 = F^2 sum_k |P_k|^2 / N_k, with P the PSF's transform and N
    the noise power. Matching convolves PSF and noise of one epoch alike, so both cases come down to
    the new epoch's PSF over the sum of its noise and of the old epoch's, seen through the kernel
    that takes the old PSF to the new one.
    """
    new_power, old_power = (np.abs(fft.fft2(psf.image(shape))) ** 2 for psf in (new, old))
    noise_power = 1.0 + old_noise**2 * new_power / np.maximum(old_power, 1e-12)
    return float(np.sqrt(np.mean(new_power / noise_power)))


def _transients(
    rng: Generator,
    recipe: Recipe,
    new: FloatArray,
    psf: Psf,
    per_flux: float,
    hosts: list[tuple[float, float]],
    truth: list[Source],
) -> None:
    """Inject point sources of SNR / ``per_flux``, some of them near a host where there are any."""
    taken: list[tuple[float, float]] = []
    for _ in range(_count(rng, recipe.transients)):
        x, y = _position(rng, recipe.shape)
        while recipe.separation and not _is_free(x, y, taken, recipe):
            x, y = _position(rng, recipe.shape)
        taken.append((x, y))
        if hosts and rng.random() < 0.3:
            host = hosts[int(rng.integers(len(hosts)))]
            offset = rng.normal(0.0, 4.0, size=2)
            x = float(np.clip(host[0] + offset[0], 0, recipe.shape[1] - 1))
            y = float(np.clip(host[1] + offset[1], 0, recipe.shape[0] - 1))
        snr = float(rng.uniform(*recipe.snr))
        sign = -1.0 if rng.random() < recipe.negative else 1.0
        psf.add(new, x, y, sign * snr / per_flux, int(6 * psf.fwhm) + 4)
        truth.append(Source("transient" if sign > 0 else "fading", x, y, snr))


def _is_free(x: float, y: float, taken: list[tuple[float, float]], recipe: Recipe) -> bool:
    height, width = recipe.shape
    edge = min(x, y, width - 1 - x, height - 1 - y)
    return edge >= recipe.separation and all(
        np.hypot(x - other_x, y - other_y) >= recipe.separation for other_x, other_y in taken
    )


def _trails(rng: Generator, recipe: Recipe, new: FloatArray, psf: Psf, truth: list[Source]) -> None:
    """Add trails of satellites: straight, as wide as the PSF, across the field or part of it."""
    height, width = recipe.shape
    for _ in range(_count(rng, recipe.trails)):
        x, y = _position(rng, recipe.shape)
        angle = float(rng.uniform(0, np.pi))
        length = float(rng.choice([rng.uniform(15, 60), rng.uniform(60, 1.5 * max(height, width))]))
        columns, rows = np.meshgrid(np.arange(width) - x, np.arange(height) - y)
        across = rows * np.cos(angle) - columns * np.sin(angle)
        along = np.abs(columns * np.cos(angle) + rows * np.sin(angle)) - length / 2
        distance = np.hypot(across, np.maximum(along, 0.0))
        sigma = psf.fwhm / 2.355
        new += float(np.exp(rng.uniform(0.0, np.log(30.0)))) * np.exp(
            -0.5 * (distance / sigma) ** 2
        )
        truth.append(Source("trail", x, y))


def _cosmic_rays(rng: Generator, recipe: Recipe, new: FloatArray, truth: list[Source]) -> None:
    """Tracks of single pixels that no optics blurred, most of them short."""
    height, width = recipe.shape
    for _ in range(_count(rng, recipe.cosmic_rays)):
        x, y = _position(rng, recipe.shape)
        angle = float(rng.uniform(0, 2 * np.pi))
        length = 1.0 + min(float(rng.exponential(4.0)), 60.0)
        charge = float(np.exp(rng.uniform(np.log(6.0), np.log(600.0))))
        # Drizzling the track in half-pixel steps spreads a slanted one over its neighbours.
        steps = np.arange(0.0, length, 0.5)
        columns = np.rint(x + steps * np.cos(angle)).astype(int)
        rows = np.rint(y + steps * np.sin(angle)).astype(int)
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        amount = 0.5 * charge * rng.uniform(0.5, 1.5, size=steps.size)
        np.add.at(new, (rows[inside], columns[inside]), amount[inside])
        truth.append(
            Source("cosmic_ray", x + length / 2 * np.cos(angle), y + length / 2 * np.sin(angle))
        )


def _saturate(new: FloatArray, full_well: float, truth: list[Source]) -> None:
    """Clip at the full well, and let the surplus bleed along the column."""
    surplus = np.maximum(new - full_well, 0.0)
    for column in np.flatnonzero(surplus.any(axis=0)):
        rows = np.flatnonzero(surplus[:, column])
        bleed = int(min(surplus[:, column].sum() / full_well / 2.0, 60.0))
        new[max(0, rows[0] - bleed) : rows[-1] + bleed + 1, column] = full_well
        truth.append(Source("saturated", float(column), float(rows.mean())))
    np.minimum(new, full_well, out=new)


def _bad_columns(
    rng: Generator, recipe: Recipe, difference: FloatArray, truth: list[Source]
) -> None:
    """Columns, or pieces of them, with an offset or too much noise; and single hot pixels."""
    height, width = recipe.shape
    for _ in range(_count(rng, recipe.bad_columns)):
        column = int(rng.integers(width))
        start = int(rng.integers(height)) if rng.random() < 0.5 else 0
        thick = 1 if rng.random() < 0.7 else 2
        strip = difference[start:, column : column + thick]
        strip += float(rng.choice([-1.0, 1.0]) * np.exp(rng.uniform(np.log(2.0), np.log(50.0))))
        strip += rng.normal(0.0, float(rng.uniform(0.0, 8.0)), size=strip.shape)
        truth.append(Source("bad_column", float(column), float(start + height) / 2))
        for _ in range(int(rng.poisson(3.0))):
            x, y = int(rng.integers(width)), int(rng.integers(height))
            difference[y, x] += float(np.exp(rng.uniform(np.log(6.0), np.log(200.0))))
            truth.append(Source("cosmic_ray", float(x), float(y)))


def _gaps(rng: Generator, recipe: Recipe, difference: FloatArray, truth: list[Source]) -> None:
    """NaN blocks; a transient inside one cannot be found, so it leaves the truth."""
    height, width = recipe.shape
    for _ in range(_count(rng, recipe.gaps)):
        low, left = int(rng.integers(height)), int(rng.integers(width))
        high = low + int(rng.integers(4, 60))
        right = left + int(rng.integers(4, 60))
        difference[low:high, left:right] = np.nan
        truth[:] = [
            source
            for source in truth
            if source.kind != "transient"
            or not (low - 1 <= source.y <= high and left - 1 <= source.x <= right)
        ]


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
