"""What a simulated field holds."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a simulated field holds; pairs are ranges from which each field draws.

    Attributes
    ----------
    shape
        Rows and columns, pixels.
    fwhm
        Seeing of the new epoch, pixels, drawn log-uniformly.
    fwhm_scatter
        Of the logarithm of the old epoch's seeing around it.
    transients
        Number of injected transients.
    snr
        Their matched-filter signal-to-noise ratio, drawn uniformly.
    bright
        Share of transients whose ratio is drawn log-uniformly from ``bright_snr`` instead.
    separation
        Least distance of a transient from others and from the edges, pixels; with 0 they lie
        anywhere.
    fading
        Share of transients that are in the old epoch alone, so that they are negative.
    on_star, on_galaxy
        Share of transients on a constant star, which varies then, and on or near a galaxy.
    stars, galaxies
        Number of constant sources, whose residuals are the dipoles.
    shift
        Misregistration of the epochs, pixels.
    kernel_error
        Relative error of the PSF widths that the matching kernel is made from.
    scale_error
        Relative error of the flux scale of the old epoch, standard deviation.
    resampled
        Share of fields whose epochs were resampled, each by a shift of its own, so that their noise
        is correlated.
    uneven
        Share of fields whose noise differs across them, and by which factor at most.
    uneven_by
        Largest such factor.
    cosmic_rays, trails, bad_columns, gaps, lines
        Number of each artefact; gaps are blocks of NaN, and lines are rows or columns of it.
    saturation
        Full well, in units of the sky noise, drawn log-uniformly.
    """

    shape: tuple[int, int] = (512, 512)
    fwhm: tuple[float, float] = (1.2, 10.0)
    fwhm_scatter: float = 0.2
    transients: tuple[int, int] = (10, 40)
    snr: tuple[float, float] = (3.0, 30.0)
    bright: float = 0.5
    bright_snr: tuple[float, float] = (3.0, 6000.0)
    separation: float = 0.0
    fading: float = 0.5
    on_star: float = 0.1
    on_galaxy: float = 0.3
    stars: tuple[int, int] = (20, 400)
    galaxies: tuple[int, int] = (5, 60)
    shift: tuple[float, float] = (0.05, 0.4)
    kernel_error: float = 0.03
    scale_error: float = 0.005
    resampled: float = 0.5
    uneven: float = 0.4
    uneven_by: float = 3.0
    cosmic_rays: tuple[int, int] = (0, 40)
    trails: tuple[int, int] = (0, 2)
    bad_columns: tuple[int, int] = (0, 4)
    gaps: tuple[int, int] = (0, 2)
    lines: tuple[int, int] = (0, 1)
    saturation: tuple[float, float] = (500.0, 3e4)


ARTEFACTS = Recipe()
NOISE_ONLY = Recipe(
    stars=(0, 0),
    galaxies=(0, 0),
    cosmic_rays=(0, 0),
    trails=(0, 0),
    bad_columns=(0, 0),
    gaps=(0, 0),
    lines=(0, 0),
    resampled=0.0,
    uneven=0.0,
)
_RESAMPLED_NOISE = replace(NOISE_ONLY, resampled=1.0, uneven=0.5)


def mixed_recipe(index: int) -> Recipe:
    """The recipe of a field of a mixed set: one in four holds noise and transients only.

    Every other one of those has noise that is white and the same everywhere.
    """
    if index % 4 < 3:
        return ARTEFACTS
    return NOISE_ONLY if index % 8 == 3 else _RESAMPLED_NOISE


def count(rng: Generator, bounds: tuple[int, int]) -> int:
    """A whole number within bounds, both included."""
    return int(rng.integers(bounds[0], bounds[1], endpoint=True))


def log_uniform(rng: Generator, bounds: tuple[float, float]) -> float:
    """A number within bounds, of which each decade is as likely."""
    return float(np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]))))


def position(rng: Generator, shape: tuple[int, int]) -> tuple[float, float]:
    """X and y anywhere in a field, pixels."""
    return float(rng.uniform(0, shape[1] - 1)), float(rng.uniform(0, shape[0] - 1))
