"""Transients of known truth in real exposures, consistently in the difference and in its epochs.

What brightens is in the difference and in the science image, what fades is missing in the
difference and is in the template. Their profile is that of the exposure's point sources: a Moffat
function of their width with a random exponent and ellipticity, each exposure its own. Fluxes are
those of the difference, so science and template have to be on its scale, as they are wherever a
difference is made at the science image's flux scale.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from astrotriton.adaptation.survey import SurveyExposure
from astrotriton.detection.arrays import STAMP_RADIUS, Positions
from astrotriton.detection.image.normalisation import Normalisation
from astrotriton.detection.image.preprocess import normalise
from astrotriton.detection.quality.labelled import LabelledField
from astrotriton.detection.quality.transients import Transients
from astrotriton.detection.sources.candidates import extract
from astrotriton.simulation.psf import random_moffat
from astrotriton.simulation.recipe import log_uniform
from astrotriton.wire.exposures import Companion

_TILE = 512
_EDGE = 6  # pixels, that no transient is nearer to than this
# Width of the profiles around the measured one, standard deviation of its logarithm.
_WIDTH_SCATTER = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """What is put into exposures.

    Attributes
    ----------
    per_tile
        Number of transients in 512x512 pixels, from and to.
    snr
        Their signal-to-noise ratio, drawn uniformly.
    bright
        Share of those whose ratio is drawn log-uniformly from ``bright_snr`` instead.
    fading
        Share of those that fade.
    on_source
        Share of those that lie on or near what is in the science image, where there is one.
    apart
        Least distance between two, in FWHM.
    """

    per_tile: tuple[int, int] = (10, 40)
    snr: tuple[float, float] = (3.0, 30.0)
    bright: float = 0.5
    bright_snr: tuple[float, float] = (3.0, 3000.0)
    fading: float = 0.5
    on_source: float = 0.4
    apart: float = 3.0


def inject(
    rng: Generator, exposure: SurveyExposure, how: Injection, hosts: Positions
) -> LabelledField:
    """Put transients into an exposure; those that labels vouch for stay in its truth.

    Parameters
    ----------
    rng
        Draws them.
    exposure
        Is left as it is.
    how
        What to draw.
    hosts
        float64 (N, 2), what they may lie on, as `hosts_of` finds it.
    """
    image = exposure.image.astype(np.float64)
    companions = {one: pixels.astype(np.float64) for one, pixels in exposure.companions.items()}
    widened = float(np.exp(rng.normal(0.0, _WIDTH_SCATTER)))
    psf = random_moffat(rng, exposure.fwhm * widened)
    profiles = {
        one: random_moffat(rng, exposure.companions_fwhm[one] * widened) for one in companions
    }
    grid = np.arange(-STAMP_RADIUS, STAMP_RADIUS + 1.0)
    per_sigma = float(np.sum(psf(grid[None, :], grid[:, None]) ** 2) ** -0.5)
    count = image.size / _TILE**2 * rng.uniform(*how.per_tile)
    places, hosted = _places(rng, exposure, max(1, round(count)), how, hosts)
    snr = rng.uniform(*how.snr, size=len(places))
    bright = rng.random(len(places)) < how.bright
    snr[bright] = [log_uniform(rng, how.bright_snr) for _ in range(np.count_nonzero(bright))]
    polarity = np.where(rng.random(len(places)) < how.fading, -1, 1).astype(np.int8)
    for (x, y), one, sign in zip(places, snr, polarity.tolist(), strict=True):
        flux = one * float(exposure.noise[round(y), round(x)]) * exposure.sigma * per_sigma
        reach = int(6 * psf.fwhm + 2.0 * one**0.5) + 4
        psf.add(image, x, y, sign * flux, reach)
        epoch: Companion = "science" if sign > 0 else "template"
        if epoch in companions:
            profiles[epoch].add(companions[epoch], x, y, flux, reach)
    known = Transients(
        positions=places,
        snr=snr,
        polarity=polarity,
        fwhm=np.full(len(places), exposure.fwhm),
        hosted=hosted,
        saturated=np.zeros(len(places), bool),
    )
    return LabelledField(
        image.astype(np.float32),
        Transients.join([known, exposure.transients]),
        {one: pixels.astype(np.float32) for one, pixels in companions.items()},
    )


def hosts_of(exposure: SurveyExposure) -> Positions:
    """What is in the science image, stars and galaxies, float64 (N, 2); none without one."""
    science = exposure.companions.get("science")
    if science is None:
        return np.empty((0, 2))
    prepared = normalise(science, ~np.isfinite(science), Normalisation())
    height, width = science.shape
    significance, mask, _ = prepared.piece(slice(0, height), slice(0, width))
    positions, _, _ = extract(significance, mask)
    return positions


def _places(
    rng: Generator, exposure: SurveyExposure, count: int, how: Injection, hosts: Positions
) -> tuple[Positions, NDArray[np.bool_]]:
    """Where transients are put, and which of them lie on a host; never where a pixel is unusable.

    Where there is no room for so many, there are fewer.
    """
    height, width = exposure.image.shape
    taken = list(exposure.transients.positions)
    places: list[NDArray[np.float64]] = []
    hosted: list[bool] = []
    for _ in range(4 * count):
        if len(places) == count:
            break
        on_host = len(hosts) > 0 and rng.random() < how.on_source
        if on_host:
            place = hosts[rng.integers(len(hosts))] + rng.normal(0.0, 0.7 * exposure.fwhm, size=2)
        else:
            place = rng.uniform((0.0, 0.0), (width - 1.0, height - 1.0))
        x, y = place
        if not (_EDGE <= x < width - _EDGE and _EDGE <= y < height - _EDGE):
            continue
        if not np.isfinite(exposure.image[round(y), round(x)]):
            continue
        if any(np.hypot(*(place - other)) < how.apart * exposure.fwhm for other in taken):
            continue
        taken.append(place)
        places.append(place)
        hosted.append(on_host)
    return np.array(places).reshape(-1, 2), np.array(hosted, bool)


def pieces(field: LabelledField) -> Iterator[LabelledField]:
    """A field cut into pieces of about 512x512 pixels, the transients with them."""
    height, width = field.image.shape
    for rows in np.array_split(np.arange(height), max(1, round(height / _TILE))):
        for columns in np.array_split(np.arange(width), max(1, round(width / _TILE))):
            inside = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            known, corner = field.transients, np.array((columns[0], rows[0]))
            low, high = corner - 0.5, np.array((columns[-1], rows[-1])) + 0.5
            here = ((known.positions >= low) & (known.positions < high)).all(axis=1)
            yield LabelledField(
                np.ascontiguousarray(field.image[inside]),
                known.take(np.asarray(here)).shifted(-corner),
                {
                    one: np.ascontiguousarray(image[inside])
                    for one, image in field.companions.items()
                },
            )
