"""Exposures for the demo and for golden tiles: simulated FITS files, and a real one."""

import io
from collections.abc import Mapping, Sequence
from importlib import resources

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from astrotriton.detection.arrays import Image
from astrotriton.detection.card import ModelCard
from astrotriton.detection.image.reading import read_image
from astrotriton.detection.quality.judged_candidates import judged_candidates
from astrotriton.detection.quality.labelled import ValidationSet
from astrotriton.detection.quality.transients import Transients
from astrotriton.detection.scoring.score import prepare_exposure
from astrotriton.simulation.fields import Field, simulate
from astrotriton.simulation.recipe import ARTEFACTS, NOISE_ONLY, Recipe, mixed_recipe
from astrotriton.training.calibrate import labelled
from astrotriton.wire.exposures import COMPANIONS, Companion

DEMO_SEED = 20_260_003
DEMO_RECIPE = Recipe(
    shape=(600, 700),
    fwhm=(3.0, 5.0),
    transients=(10, 10),
    snr=(6.0, 30.0),
    bright=0.3,
    bright_snr=(50.0, 1000.0),
    fading=0.3,
    on_star=0.0,
    stars=(120, 120),
    trails=(1, 1),
)
_PIXEL_SCALE = 0.26  # arcsec
_CENTRE = (318.1, -66.0)  # ICRS degrees
_GOLDEN_SEEDS = 3_000_000
_VALIDATION_SEEDS = 5_000_000
# Golden tiles, and stamps, of one exposure.
_MOST, _MOST_STAMPS = 2, 24


def to_fits(field: Field) -> bytes:
    """A field's difference as a FITS file with a tangential WCS, as a pipeline would write it."""
    height, width = field.difference.shape
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = _CENTRE
    wcs.wcs.crpix = [(width + 1) / 2, (height + 1) / 2]
    wcs.wcs.cdelt = [-_PIXEL_SCALE / 3600, _PIXEL_SCALE / 3600]
    wcs.wcs.radesys = "ICRS"
    stream = io.BytesIO()
    fits.PrimaryHDU(field.difference, wcs.to_header()).writeto(stream)
    return stream.getvalue()


def demo_field() -> Field:
    """The exposure that the demo scores when it is given none."""
    return simulate(DEMO_SEED, DEMO_RECIPE)


def golden_tiles(card: ModelCard) -> Mapping[str, Image]:
    """Tiles, or stamps, on which a converted model must answer as the original does.

    Random numbers alone would let a faulty conversion pass: these have sources, artefacts and sky.

    Parameters
    ----------
    card
        Of the model; decides the normalisation and the size of the tiles.

    Returns
    -------
    mapping of str to float32 (N, C, H, W)
        By kind: ``simulated`` fields, with their science image and template where the card names
        them; the same ``without_optional_planes`` where it has such; and, unless it needs planes,
        ``real``: a plate of M13 from the Digitized Sky Survey, which astropy's wheel carries.
    """
    # Where nothing was subtracted there is no template.
    recipes = (ARTEFACTS, ARTEFACTS if card.companions else NOISE_ONLY)
    fields = [simulate(_GOLDEN_SEEDS + i, recipe) for i, recipe in enumerate(recipes)]
    found = {"simulated": [_sample(to_fits(one), card, one) for one in fields]}
    if not card.required_planes:
        m13 = resources.files("astropy.io.fits.hdu.compressed.tests") / "data" / "m13_rice.fits"
        found["real"] = [_sample(m13.read_bytes(), card, None)]
    if card.optional_planes:
        found["without_optional_planes"] = [
            _sample(to_fits(one), card, one, card.required_planes) for one in fields
        ]
    return {kind: np.concatenate(tiles) for kind, tiles in found.items()}


def _sample(
    content: bytes,
    card: ModelCard,
    field: Field | None,
    sent: Sequence[Companion] = COMPANIONS,
) -> Image:
    exposure, _ = read_image(content)
    truth = Transients.of(np.empty((0, 2)), np.empty(0))
    if field is not None:
        known = labelled(field).showing(sent)
        truth = known.transients
        exposure.companions |= known.exposure().companions
    candidates = judged_candidates(exposure, card, truth)
    most = _MOST if candidates is None else _MOST_STAMPS
    return prepare_exposure(exposure, card, candidates or []).sample(most)


def validation_set(count: int) -> ValidationSet:
    """Simulated fields that neither training nor calibration has seen, with their companions."""
    fields = [labelled(simulate(_VALIDATION_SEEDS + i, mixed_recipe(i))) for i in range(count)]
    return ValidationSet(fields, f"{count} simulated difference fields, seed {_VALIDATION_SEEDS}")
