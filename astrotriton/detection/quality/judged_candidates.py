"""The candidates that a network is judged on which scores those that it is sent."""

import numpy as np

from astrotriton.detection.arrays import Positions
from astrotriton.detection.card import ModelCard, StampModel
from astrotriton.detection.image.exposure import Exposure
from astrotriton.detection.image.preprocess import Normalised
from astrotriton.detection.image.tiling import plan
from astrotriton.detection.quality.transients import Transients
from astrotriton.detection.scoring.inference import answered_by
from astrotriton.detection.sources.candidates import extract
from astrotriton.detection.sources.matching import nearest
from astrotriton.wire.detections import Candidate

# What an exposure is read in, pixels.
_TILE, _OVERLAP = (512, 512), 96


def judged_candidates(
    exposure: Exposure, card: ModelCard, truth: Transients
) -> list[Candidate] | None:
    """The true transients of an exposure, and what else SEP takes for a source in it.

    Artefacts, residuals of stars and peaks of the noise are among the latter, as they are among
    what a survey's pipeline finds. Of those within the card's ``nms_radius`` of a transient, the
    transient stands for them.

    Parameters
    ----------
    exposure
        Read tile by tile.
    card
        Of the network.
    truth
        The exposure's transients; those that the network does not look for are left out.

    Returns
    -------
    list of Candidate or None
        None for a network that finds sources itself, which is judged on those.
    """
    if not isinstance(card, StampModel):
        return None
    height, width = exposure.shape
    positions = truth.looked_for(card.polarities).positions
    inside = ((positions >= -0.5) & (positions < (width - 0.5, height - 0.5))).all(axis=1)
    positions = positions[inside]
    found = _extracted(exposure, card)
    _, distance = nearest(found, positions, card.nms_radius)
    positions = np.concatenate([positions, found[~np.isfinite(distance)]])
    return [
        Candidate(id=str(number), x=float(x), y=float(y)) for number, (x, y) in enumerate(positions)
    ]


def _extracted(exposure: Exposure, card: ModelCard) -> Positions:
    """What SEP finds of the signs that the network looks for, those that brighten first."""
    prepared = Normalised(exposure.pixels, exposure.shape, card.normalisation, exposure.spread)
    found: dict[int, list[Positions]] = {1: [], -1: []}
    for tile in plan(exposure.shape, _TILE, _OVERLAP):
        significance, mask, _ = prepared.piece(tile.rows.seen, tile.columns.seen)
        corner = np.array((tile.columns.start, tile.rows.start))
        for polarity in card.polarities:
            places, _, _ = extract(significance if polarity > 0 else -significance, mask)
            own = places[answered_by(places, tile, 0)]
            found[polarity].append(own + corner)
    return np.concatenate([*found[1], *found[-1]])
