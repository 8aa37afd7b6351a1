"""What is in an exposure and is not of the sky: trails, cosmic rays, saturation, columns, gaps."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from astrotriton.simulation.psf import FloatArray, Psf
from astrotriton.simulation.recipe import Recipe, count, log_uniform, position
from astrotriton.simulation.truth import Source


def add_trails(
    rng: Generator, recipe: Recipe, new: FloatArray, psf: Psf, truth: list[Source]
) -> None:
    """Add trails of satellites: straight, as wide as the PSF, across the field or part of it."""
    height, width = recipe.shape
    for _ in range(count(rng, recipe.trails)):
        x, y = position(rng, recipe.shape)
        angle = float(rng.uniform(0, np.pi))
        length = float(rng.choice([rng.uniform(15, 60), rng.uniform(60, 1.5 * max(height, width))]))
        columns, rows = np.meshgrid(np.arange(width) - x, np.arange(height) - y)
        across = rows * np.cos(angle) - columns * np.sin(angle)
        along = np.abs(columns * np.cos(angle) + rows * np.sin(angle)) - length / 2
        distance = np.hypot(across, np.maximum(along, 0.0))
        sigma = psf.fwhm / 2.355
        new += log_uniform(rng, (1.0, 30.0)) * np.exp(-0.5 * (distance / sigma) ** 2)
        truth.append(Source("trail", x, y))


def add_cosmic_rays(rng: Generator, recipe: Recipe, new: FloatArray, truth: list[Source]) -> None:
    """Tracks of single pixels that no optics blurred, most of them short."""
    height, width = recipe.shape
    for _ in range(count(rng, recipe.cosmic_rays)):
        x, y = position(rng, recipe.shape)
        angle = float(rng.uniform(0, 2 * np.pi))
        length = 1.0 + min(float(rng.exponential(4.0)), 60.0)
        charge = log_uniform(rng, (6.0, 600.0))
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


def saturate(image: FloatArray, full_well: float, truth: list[Source]) -> NDArray[np.bool_]:
    """Clip at the full well, and let the surplus bleed along the column; which pixels were full."""
    surplus = np.maximum(image - full_well, 0.0)
    for column in np.flatnonzero(surplus.any(axis=0)):
        rows = np.flatnonzero(surplus[:, column])
        # Each source bleeds by itself, however many share a column.
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            bleed = int(min(surplus[run, column].sum() / full_well / 2.0, 60.0))
            image[max(0, run[0] - bleed) : run[-1] + bleed + 1, column] = full_well
            truth.append(Source("saturated", float(column), float(run.mean())))
    np.minimum(image, full_well, out=image)
    return np.asarray(image >= full_well)


def add_bad_columns(
    rng: Generator, recipe: Recipe, difference: FloatArray, truth: list[Source]
) -> None:
    """Columns, or pieces of them, with an offset or too much noise; and single hot pixels."""
    height, width = recipe.shape
    for _ in range(count(rng, recipe.bad_columns)):
        column = int(rng.integers(width))
        start = int(rng.integers(height)) if rng.random() < 0.5 else 0
        thick = 1 if rng.random() < 0.7 else 2
        strip = difference[start:, column : column + thick]
        strip += float(rng.choice([-1.0, 1.0]) * log_uniform(rng, (2.0, 50.0)))
        strip += rng.normal(0.0, float(rng.uniform(0.0, 8.0)), size=strip.shape)
        truth.append(Source("bad_column", float(column), float(start + height) / 2))
        for _ in range(int(rng.poisson(3.0))):
            x, y = int(rng.integers(width)), int(rng.integers(height))
            difference[y, x] += log_uniform(rng, (6.0, 200.0))
            truth.append(Source("cosmic_ray", float(x), float(y)))


def cut_gaps(
    rng: Generator, recipe: Recipe, difference: FloatArray, truth: list[Source]
) -> list[Source]:
    """Cut out blocks, rows and columns of NaN; the truth without the transients that they take."""
    height, width = recipe.shape
    missing = np.zeros(recipe.shape, bool)
    for _ in range(count(rng, recipe.gaps)):
        low, left = int(rng.integers(height)), int(rng.integers(width))
        missing[low : low + int(rng.integers(4, 60)), left : left + int(rng.integers(4, 60))] = True
    for _ in range(count(rng, recipe.lines)):
        first, thick = int(rng.integers(min(height, width))), int(rng.integers(1, 4))
        line = slice(first, first + thick)
        missing[(line, slice(None)) if rng.random() < 0.5 else (slice(None), line)] = True
    difference[missing] = np.nan
    near = ndimage.binary_dilation(missing)
    return [
        source
        for source in truth
        if source.kind != "transient" or not near[round(source.y), round(source.x)]
    ]
