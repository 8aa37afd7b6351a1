"""The sky itself: constant stars and galaxies in both epochs, transients in one of them."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.random import Generator

from astrotriton.simulation.noise import Noise
from astrotriton.simulation.psf import FloatArray, GalaxyShape, Psf
from astrotriton.simulation.recipe import Recipe, count, log_uniform, position
from astrotriton.simulation.truth import Source

_LEAVES_RESIDUAL = 1500.0  # flux of a constant source in units of the sky noise
_STARS_VARY_BY = 0.1  # at least; less is within what subtraction leaves of a star
_NUCLEAR = 0.3  # share of transients on galaxies that lie in the middle


@dataclass(frozen=True, slots=True)
class Epoch:
    """An image of the scene, float64 (H, W), its PSF, and by how much it is shifted, pixels."""

    image: FloatArray
    psf: Psf
    x: float = 0.0
    y: float = 0.0


class Host(NamedTuple):
    """A constant source that a transient may lie on."""

    kind: Literal["star", "galaxy"]
    x: float
    y: float
    flux: float


def add_constant_sources(
    rng: Generator, recipe: Recipe, new: Epoch, old: Epoch, truth: list[Source]
) -> list[Host]:
    """Render stars and galaxies into both epochs, and name them."""
    hosts = []
    for _ in range(count(rng, recipe.stars)):
        x, y = position(rng, recipe.shape)
        # Star counts rise about threefold a magnitude fainter, here as a power law of the flux.
        flux = float(min(40.0 * rng.pareto(0.7) + 40.0, 4e5))
        for epoch in (new, old):
            radius = int(np.clip(4 * epoch.psf.fwhm + 3.0 * flux**0.25, 8, 80))
            epoch.psf.add(epoch.image, x + epoch.x, y + epoch.y, flux, radius)
        hosts.append(Host("star", x, y, flux))
    for _ in range(count(rng, recipe.galaxies)):
        x, y = position(rng, recipe.shape)
        flux = float(min(200.0 * rng.pareto(1.0) + 200.0, 1e5))
        shape = GalaxyShape(
            float(rng.uniform(1.2, 3.0)), float(rng.uniform(0.3, 1.0)), float(rng.uniform(0, np.pi))
        )
        for epoch in (new, old):
            epoch.psf.add_galaxy(epoch.image, x + epoch.x, y + epoch.y, flux, shape)
        hosts.append(Host("galaxy", x, y, flux))
    truth += [Source("dipole", one.x, one.y) for one in hosts if one.flux > _LEAVES_RESIDUAL]
    return hosts


def add_transients(
    rng: Generator,
    recipe: Recipe,
    new: Epoch,
    old: Epoch,
    noise: Noise,
    per_flux: float,
    hosts: list[Host],
    truth: list[Source],
) -> None:
    """Inject point sources: into the new epoch those that brighten, into the old those that fade.

    ``per_flux`` is the signal-to-noise ratio of a unit of flux where noise has its usual level.
    """
    taken: list[tuple[float, float]] = []
    galaxies = [host for host in hosts if host.kind == "galaxy"]
    for _ in range(count(rng, recipe.transients)):
        snr = float(rng.uniform(*recipe.snr))
        if rng.random() < recipe.bright:
            snr = log_uniform(rng, recipe.bright_snr)
        x, y = _free_position(rng, recipe, taken)
        host: Host | None = None
        lot = rng.random()
        if lot < recipe.on_star:
            # Roughly: the noise is not known before the place is.
            varying = [
                one
                for one in hosts
                if one.kind == "star" and one.flux * _STARS_VARY_BY < snr / per_flux
            ]
            host = _any(rng, varying)
        elif lot < recipe.on_star + recipe.on_galaxy:
            host = _any(rng, galaxies)
        if host is not None:
            x, y = _near(rng, host, new.psf.fwhm, recipe)
        taken.append((x, y))
        level = noise.level[round(y), round(x)]
        fades = rng.random() < recipe.fading
        epoch = old if fades else new
        flux = float(snr * level / per_flux)
        epoch.psf.add(epoch.image, x, y, flux, int(6 * epoch.psf.fwhm + 2.0 * flux**0.25) + 4)
        truth.append(
            Source(
                "transient",
                x,
                y,
                snr=snr,
                polarity=-1 if fades else 1,
                host="" if host is None else host.kind,
            )
        )


def _any(rng: Generator, hosts: list[Host]) -> Host | None:
    return hosts[int(rng.integers(len(hosts)))] if hosts else None


def _near(rng: Generator, host: Host, fwhm: float, recipe: Recipe) -> tuple[float, float]:
    """On a star; in the middle of a galaxy, or off it."""
    scatter = 0.0
    if host.kind == "galaxy" and rng.random() > _NUCLEAR:
        scatter = fwhm
    offset = rng.normal(0.0, 1.0, size=2) * scatter
    height, width = recipe.shape
    return (
        float(np.clip(host.x + offset[0], 0, width - 1)),
        float(np.clip(host.y + offset[1], 0, height - 1)),
    )


def _free_position(
    rng: Generator, recipe: Recipe, taken: list[tuple[float, float]]
) -> tuple[float, float]:
    """Anywhere, or as far from others and from the edges as the recipe wants."""
    x, y = position(rng, recipe.shape)
    while recipe.separation and not _is_free(x, y, taken, recipe):
        x, y = position(rng, recipe.shape)
    return x, y


def _is_free(x: float, y: float, taken: list[tuple[float, float]], recipe: Recipe) -> bool:
    height, width = recipe.shape
    edge = min(x, y, width - 1 - x, height - 1 - y)
    return edge >= recipe.separation and all(
        np.hypot(x - other_x, y - other_y) >= recipe.separation for other_x, other_y in taken
    )
