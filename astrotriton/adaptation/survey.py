"""A survey's difference exposures: measured, and ready to have transients put into them.

What the champion takes for real in them may be real, and nobody says so. Such places are made
unusable, in every image, unless a label says what is there: so they count neither for a network nor
against it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from astrotriton.detection.arrays import Flags, Image, Positions
from astrotriton.detection.card import UNetModel
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.quality.transients import Transients
from astrotriton.detection.scoring.inference import Predict
from astrotriton.detection.scoring.measured_sources import MeasuredSources, measure_sources
from astrotriton.detection.scoring.score import prepare_exposure
from astrotriton.detection.scoring.subtraction import subtraction_is_suspect
from astrotriton.detection.sources.matching import nearest
from astrotriton.training.evaluate import confidence_of
from astrotriton.wire.exposures import Companion

#: Around a label, pixels, what is found is what the label speaks of.
LABEL_RADIUS = 3.0
# Above this confidence something may be real. An artefact that scores as high is lost to learning,
# and a real source that scores lower is learned as an artefact; the latter does more harm.
_MAY_BE_REAL = 0.1
# Of a source that is made unusable, in FWHM, and at least so many pixels.
_REACH, _LEAST_REACH = 2.0, 6.0


class UnfitError(ValueError):
    """Exposures cannot be learned from; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a person says of a place of an exposure: its 0-based pixels, and whether it is real."""

    x: float
    y: float
    real: bool


@dataclass(frozen=True, slots=True)
class SurveyExposure:
    """An exposure that was measured.

    Attributes
    ----------
    name
        Of its file.
    image
        float32 (H, W), counts; NaN where it is unusable, or nobody knows what is there.
    companions
        The images that it is the difference of, alike.
    fwhm
        Of the point sources of the difference, pixels.
    companions_fwhm
        Of those of each companion.
    sigma
        Noise that a matched filter meets where the noise is typical, counts: a point source of flux
        F and profile p has a signal-to-noise ratio of F sqrt(sum(p^2)) / sigma.
    noise
        float32 (H, W), by which factor the noise is larger than typical.
    transients
        Those that labels vouch for.
    unknown
        How many sources were made unusable.
    """

    name: str
    image: Image
    companions: Mapping[Companion, Image]
    fwhm: float
    companions_fwhm: Mapping[Companion, float]
    sigma: float
    noise: Image
    transients: Transients
    unknown: int


def measure_exposure(
    name: str,
    exposure: Exposure,
    card: UNetModel,
    predict: Predict,
    labels: Sequence[Label] = (),
) -> SurveyExposure:
    """Measure an exposure with the champion's help.

    Parameters
    ----------
    name
        Of its file.
    exposure
        With its planes.
    card, predict
        Of the champion, whose confidence was fitted.
    labels
        What people say of it.

    Raises
    ------
    UnfitError
        If it is no difference, has no noise, or nothing says how wide its point sources are.
    """
    assert card.confidence is not None
    try:
        tiled = prepare_exposure(exposure, card)
        found = measure_sources(tiled.answer(predict, tiled.views))
    except InputError as error:
        raise UnfitError(f"{name}: {error.field} {error}") from error
    confidence, spots = confidence_of(found, card.confidence), found.sources.spots
    if subtraction_is_suspect(spots, confidence, exposure.shape):
        raise UnfitError(
            f"{name} does not look like a difference: far more sources look real than one holds,"
            " nearly all of the same sign"
        )
    widths = _companions_fwhm(exposure, card, predict)
    # The sharper epoch was brought to the width of the other one.
    fwhm = found.seeing or max(widths.values(), default=math.nan)
    if not math.isfinite(fwhm):
        raise UnfitError(
            f"{name}: nothing says how wide its point sources are, and too few are in it: have its"
            " header say so (SEEING, FWHM, ...), or give its science image, too"
        )
    image = exposure.nan_image()
    companions = {one: other.nan_image() for one, other in exposure.companions.items()}
    doubtful = (confidence >= _MAY_BE_REAL) & ~_spoken_of(spots.positions, labels)
    for pixels in (image, *companions.values()):
        _forget(pixels, spots.positions[doubtful], max(_REACH * fwhm, _LEAST_REACH))
    height, width = exposure.shape
    _, rms = tiled.normalised.maps(slice(0, height), slice(0, width))
    noise, psf = tiled.normalised.noise, found.psf.psf
    return SurveyExposure(
        name=name,
        image=image,
        companions=companions,
        fwhm=fwhm,
        companions_fwhm={one: widths.get(one, fwhm) for one in companions},
        sigma=found.depth / 5.0 * noise * math.sqrt(psf.power) / psf.scale,
        noise=rms / np.float32(noise),
        transients=_vouched_for(labels, found, fwhm),
        unknown=int(np.count_nonzero(doubtful)),
    )


def _companions_fwhm(
    exposure: Exposure, card: UNetModel, predict: Predict
) -> dict[Companion, float]:
    """Width of the point sources of the companions in which there are enough, pixels."""
    found: dict[Companion, float] = {}
    if card.required_planes:
        return found
    for companion, image in exposure.companions.items():
        try:
            tiled = prepare_exposure(image, card)
            width = measure_sources(tiled.answer(predict, tiled.views)).seeing
        except InputError:
            continue
        if width is not None:
            found[companion] = width
    return found


def _spoken_of(positions: Positions, labels: Sequence[Label]) -> Flags:
    """At which positions there is a label, bool (N,)."""
    known = np.array([(one.x, one.y) for one in labels], np.float64).reshape(-1, 2)
    _, distance = nearest(positions, known, LABEL_RADIUS)
    return np.isfinite(distance)


def _forget(image: Image, positions: Positions, radius: float) -> None:
    """Make what lies around positions unusable, in place."""
    height, width = image.shape
    for x, y in positions:
        low, left = max(0, int(y - radius)), max(0, int(x - radius))
        rows, columns = np.mgrid[
            low : min(height, int(y + radius) + 2), left : min(width, int(x + radius) + 2)
        ]
        inside = np.hypot(rows - y, columns - x) <= radius
        image[rows[inside], columns[inside]] = np.nan


def _vouched_for(labels: Sequence[Label], found: MeasuredSources, fwhm: float) -> Transients:
    """The transients that labels name, as far as the champion found anything there.

    What it did not find at all is left out: nothing says of which sign it is.
    """
    known = np.array([(one.x, one.y) for one in labels if one.real], np.float64).reshape(-1, 2)
    spots = found.sources.spots
    spot, distance = nearest(known, spots.positions, LABEL_RADIUS)
    there = np.isfinite(distance)
    snr = np.abs(found.measurements.snr[spot[there]])
    return Transients.of(known[there], snr, spots.polarity[spot[there]], fwhm)
