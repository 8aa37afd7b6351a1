"""The PSF family of the validation fields: what training never saw, by a renderer of its own.

Kolmogorov turbulence behind an obscured aperture, integrated over the pixels by GalSim (Rowe et al.
2015), and galaxies with Sersic profiles. Training renders Moffat profiles at the pixels' centres.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import galsim
import numpy as np
from numpy.random import Generator
from scipy import ndimage

from astrotriton.simulation.psf import FloatArray, GalaxyShape

_OPTICS = 0.25  # lambda / D in units of the FWHM
_OBSCURATION = 0.3
_SERSIC_INDICES = (1.0, 2.5, 4.0)
_OVERSAMPLING = 4
_HALF = 85 * _OVERSAMPLING  # of the finely sampled PSF, in fine pixels
_NUDGES = 10

Seen = Callable[[galsim.GSObject], galsim.GSObject]
"""What is drawn, as a function of the PSF that it is seen through."""


@dataclass(frozen=True, slots=True)
class Kolmogorov:
    """Turbulence and optics, sheared by (``g1``, ``g2``); ``fwhm`` in pixels."""

    fwhm: float
    g1: float
    g2: float

    def profile(self) -> galsim.GSObject:
        """The PSF as GalSim has it, pixels as its unit of length."""
        optics = galsim.Airy(lam_over_diam=_OPTICS * self.fwhm, obscuration=_OBSCURATION)
        # The aperture and the pixel widen the turbulence to about the FWHM asked for.
        seeing = galsim.Kolmogorov(fwhm=0.92 * self.fwhm)
        return galsim.Convolve(seeing, optics).shear(g1=self.g1, g2=self.g2)

    def add(self, image: FloatArray, x: float, y: float, flux: float, radius: int) -> None:
        """Add a point source, integrated over the pixels."""
        column, row = round(x), round(y)
        height, width = image.shape
        left, right = max(0, column - radius), min(width, column + radius + 1)
        low, high = max(0, row - radius), min(height, row + radius + 1)
        if left < right and low < high:
            columns = (np.arange(left, right) - x) * _OVERSAMPLING + _HALF
            rows = (np.arange(low, high) - y) * _OVERSAMPLING + _HALF
            stamp = ndimage.map_coordinates(
                _spline(self), np.meshgrid(rows, columns, indexing="ij"), prefilter=False
            )
            image[low:high, left:right] += flux * stamp

    def add_galaxy(
        self, image: FloatArray, x: float, y: float, flux: float, shape: GalaxyShape
    ) -> None:
        """Add a Sersic galaxy convolved with the PSF."""
        index = _SERSIC_INDICES[int(shape.angle * 1e6) % len(_SERSIC_INDICES)]
        radius = 0.5 * self.fwhm * np.sqrt(max(shape.size**2 - 1.0, 0.1))
        galaxy = galsim.Sersic(n=index, half_light_radius=radius, trunc=6 * radius).shear(
            q=shape.axis_ratio, beta=shape.angle * galsim.radians
        )
        galaxy = galaxy.withFlux(flux)
        reach = int(np.clip(6 * shape.size * self.fwhm, 10, 80))
        _draw(self, lambda psf: galsim.Convolve(galaxy, psf), image, x, y, reach)

    def image(self, shape: tuple[int, int]) -> FloatArray:
        """The PSF centred on pixel (0, 0) of a periodic (H, W) image, of unit sum."""
        centred: FloatArray = np.zeros(shape)
        x, y = shape[1] // 2, shape[0] // 2
        self.add(centred, x, y, 1.0, min(x, y, 84))
        centred /= centred.sum()
        return np.roll(centred, (-y, -x), axis=(0, 1))

    def stretched(self, factor: float) -> "Kolmogorov":
        """The same PSF ``factor`` times as wide."""
        return Kolmogorov(self.fwhm * factor, self.g1, self.g2)


@lru_cache(maxsize=8)
def _spline(psf: Kolmogorov) -> FloatArray:
    """Cubic spline of the pixel-integrated PSF on a finer grid: drawing each star anew is slow."""
    fine = galsim.Image(2 * _HALF + 1, 2 * _HALF + 1, dtype=float)
    _render(
        psf,
        lambda psf: galsim.Convolve(psf, galsim.Pixel(1.0)),
        image=fine,
        scale=1.0 / _OVERSAMPLING,
        method="no_pixel",
    )
    # GalSim gives flux per fine pixel; a star's pixel holds the flux per pixel.
    spline: FloatArray = ndimage.spline_filter(fine.array * _OVERSAMPLING**2)
    return spline


def use_one_thread() -> None:
    """Keep GalSim's threads from competing: each process of a pool has a core of its own."""
    galsim.set_omp_threads(1)


def random_kolmogorov(rng: Generator, fwhm: float) -> Kolmogorov:
    """A Kolmogorov PSF of this FWHM with a random ellipticity of up to 0.08."""
    size, angle = rng.uniform(0.0, 0.08), rng.uniform(0, 2 * np.pi)
    return Kolmogorov(fwhm, float(size * np.cos(angle)), float(size * np.sin(angle)))


def _render(psf: Kolmogorov, seen: Seen, **how: Any) -> None:
    """Draw what is seen through a PSF.

    GalSim 2.8's obscured aperture is NaN at a few wave numbers. Where the Fourier grid of a PSF
    meets one, the whole image is; the grid of one that is a hundred-thousandth wider does not.
    """
    for nudge in range(_NUDGES):
        image = seen(psf.stretched(1.0 + 1e-5 * nudge).profile()).drawImage(**how)
        if np.isfinite(image.array).all():
            return
    raise ArithmeticError(f"GalSim draws NaN through {psf}")


def _draw(psf: Kolmogorov, seen: Seen, image: FloatArray, x: float, y: float, radius: int) -> None:
    column, row = round(x), round(y)
    stamp = galsim.Image(
        galsim.BoundsI(column - radius, column + radius, row - radius, row + radius), dtype=float
    )
    _render(psf, seen, image=stamp, scale=1.0, center=galsim.PositionD(x, y))
    height, width = image.shape
    inside = stamp.bounds & galsim.BoundsI(0, width - 1, 0, height - 1)
    if inside.isDefined():
        image[inside.ymin : inside.ymax + 1, inside.xmin : inside.xmax + 1] += stamp[inside].array
