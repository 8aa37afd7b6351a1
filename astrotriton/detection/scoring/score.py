"""The way of one exposure: prepare, let the network answer tile by tile, finish."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from astrotriton.detection.card import Domain, ModelCard, StampModel, UNetModel
from astrotriton.detection.confidence.model import ConfidenceModel
from astrotriton.detection.confidence.prevalence import StatedPrevalence
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.exposure import Exposure, Limits
from astrotriton.detection.image.planes import OpenPlanes, Planes, apply_planes
from astrotriton.detection.image.reading import read_image
from astrotriton.detection.image.seeing import seeing_of_request
from astrotriton.detection.scoring.answer import Judged, build_detections, build_features
from astrotriton.detection.scoring.inference import Inference
from astrotriton.detection.scoring.measured_sources import MeasuredSources, measure_sources
from astrotriton.detection.scoring.scored import Scored
from astrotriton.detection.scoring.stamp_inference import StampInference
from astrotriton.detection.scoring.subtraction import subtraction_is_suspect
from astrotriton.detection.scoring.tiled_inference import TiledInference
from astrotriton.detection.sources.candidates import Unplaced, place_candidates
from astrotriton.detection.sources.photometry import magnitude
from astrotriton.wire.confidence import Guarantee, Prevalence
from astrotriton.wire.detections import Candidate
from astrotriton.wire.exposures import ImageQuality, Observation, SeeingUnit
from astrotriton.wire.flags import Flag

TTA_VIEWS = 8


def prepare(
    content: bytes,
    card: ModelCard,
    candidates: Sequence[Candidate] | None = None,
    *,
    hdu: int | str | None = None,
    planes: Planes | None = None,
    seeing: tuple[float, SeeingUnit] | None = None,
    tta: bool = False,
    polarity: Literal[1, -1] | None = None,
    limits: Limits | None = None,
    observation: Observation | None = None,
) -> Inference:
    """Read an exposure, fit its background, and cut it into tiles, or stamps out of it.

    Parameters
    ----------
    content
        A FITS or .npy file.
    card
        The model that will be asked.
    candidates
        Sources to score; None: SEP extracts them. A classifier of stamps needs them.
    hdu
        Index or EXTNAME of the image, FITS only.
    planes
        Further images: which pixels are unusable, how noisy each is, what the PSF is, and science
        and template.
    seeing
        Full width at half maximum of point sources, and its unit; it goes before the header's.
    tta
        Show the network every tile in eight orientations, for a better confidence at eight times
        the cost.
    polarity
        1 or -1: look for sources that brighten, or that fade, alone; None: for both.
    limits
        Bounds on the exposure and the number of candidates.
    observation
        What the sender says of how it was taken; the headers say the rest.

    Raises
    ------
    InputError
        If the exposure or a plane cannot be scored, the model needs a plane that was not sent, an
        id is used twice, or a classifier of stamps is given no candidates; the field says which.
        A candidate that lies nowhere on the exposure is answered as ``unscored``.
    """
    limits = limits or Limits()
    exposure, opened = read_image(
        content, hdu=hdu, planes=planes, observation=observation, limits=limits
    )
    return prepare_exposure(
        exposure,
        card,
        candidates,
        opened=opened,
        planes=planes,
        seeing=seeing,
        tta=tta,
        polarity=polarity,
        limits=limits,
    )


def prepare_exposure(
    exposure: Exposure,
    card: ModelCard,
    candidates: Sequence[Candidate] | None = None,
    *,
    opened: OpenPlanes | None = None,
    planes: Planes | None = None,
    seeing: tuple[float, SeeingUnit] | None = None,
    tta: bool = False,
    polarity: Literal[1, -1] | None = None,
    limits: Limits | None = None,
) -> Inference:
    """Do what `prepare` does, for an exposure and planes that have been read already."""
    if opened is not None:
        apply_planes(exposure, opened, planes or Planes())
    if seeing is not None:
        exposure.seeing = seeing_of_request(*seeing, exposure.pixel_scale)
    unplaced: list[Unplaced] = []
    if candidates is not None:
        most = (limits or Limits()).max_candidates
        candidates, unplaced = place_candidates(candidates, exposure, most)
    return inference_of(
        exposure,
        card,
        candidates,
        views=TTA_VIEWS if tta else 1,
        unplaced=unplaced,
        polarity=polarity,
    )


def inference_of(
    exposure: Exposure,
    card: ModelCard,
    candidates: Sequence[Candidate] | None,
    *,
    views: int = 1,
    polarity: Literal[1, -1] | None = None,
    unplaced: Sequence[Unplaced] = (),
) -> Inference:
    """An exposure on its way through a network of the card's family; see `Inference`.

    Raises
    ------
    InputError
        As `Inference` does; ``candidates-missing`` if the network needs candidates.
    """
    if isinstance(card, UNetModel):
        return TiledInference(
            exposure, card, candidates, views=views, polarity=polarity, unplaced=unplaced
        )
    assert isinstance(card, StampModel)
    if candidates is None:
        raise InputError(
            "candidates-missing",
            "candidates",
            f"{card.name} classifies stamps, so it scores the candidates that are sent, and finds"
            " none itself: send those that your pipeline has found, each with an id and its x and y"
            " or ra and dec",
        )
    return StampInference(
        exposure, card, candidates, views=views, polarity=polarity, unplaced=unplaced
    )


def finish(
    tiled: Inference,
    *,
    threshold: float = 0.5,
    guarantee: Guarantee | None = None,
    prevalence: Prevalence | None = None,
    prevalence_unused: bool = False,
    limits: Limits | None = None,
) -> Scored:
    """Score the sources of an exposure whose tiles have all been answered.

    Parameters
    ----------
    tiled
        With every tile accepted.
    threshold
        Least confidence of a detection that is called real.
    guarantee
        What `guarantee_of` vouches for; its threshold takes the place of the other.
    prevalence
        Of `prevalence_of`: the share of real sources that the confidences shall hold for. None:
        that of the card.
    prevalence_unused
        Whether they should hold for another one, which is not known or cannot be followed.
    limits
        Bounds the candidates that SEP contributes.
    """
    most = (limits or Limits()).max_candidates
    measured = measure_sources(tiled, max_candidates=most)
    if guarantee is not None:
        threshold = guarantee.threshold
    model = tiled.card.confidence_for(tiled.views)
    judged = _judge(model, measured, tiled.card.domain, prevalence)
    flags = set(tiled.exposure.flags)
    if measured.psf.source == "assumed":
        flags.add(Flag.SEEING_ASSUMED)
    if prevalence_unused:
        flags.add(Flag.PREVALENCE_NOT_USED)
    if judged.seeing_outside:
        flags.add(Flag.SEEING_OUTSIDE_TRAINING)
    both = len(tiled.polarities) > 1
    if both and subtraction_is_suspect(
        measured.sources.spots, judged.confidence, tiled.exposure.shape
    ):
        flags.add(Flag.SUBTRACTION_SUSPECT)
    # NaN, an unscored source, sorts last.
    order = np.argsort(-judged.confidence, kind="stable")
    detections = build_detections(tiled, measured, judged, order, threshold, flags)
    features: list[list[float] | None] = [None] * len(detections)
    if model is not None:
        features = build_features(measured, judged, model.names, order, len(detections))
    image = tiled.normalised
    return Scored(
        detections=detections,
        features=features,
        image=ImageQuality(
            background=image.background,
            background_gradient=image.gradient,
            noise=image.noise,
            depth=measured.depth * image.noise,
            seeing_fwhm=measured.seeing,
            seeing_source=measured.psf.source,
            masked_fraction=image.masked_fraction,
            saturated_fraction=tiled.saturated_fraction(),
            limiting_magnitude=magnitude(
                measured.depth * image.noise, tiled.exposure.observation.zero_point
            ),
            planes=tiled.channels.planes,
        ),
        observation=tiled.exposure.observation,
        hdu=tiled.exposure.name,
        shape=tiled.exposure.shape,
        tiles=len(tiled.tiles),
        extracted=tiled.candidates is None,
        threshold=threshold,
        guarantee=guarantee,
        prevalence=prevalence,
        flags=tuple(sorted(flags)),
    )


def prevalence_of(
    card: ModelCard, views: int, stated: StatedPrevalence | None
) -> Prevalence | None:
    """What a stated share of real sources is to a card's confidence; None if none is stated.

    Raises
    ------
    InputError
        ``prevalence-unusable`` if the card does not say the share that it was calibrated on.
    """
    if stated is None:
        return None
    if (model := card.confidence_for(views)) is None or model.prevalence is None:
        why = "was never calibrated" if model is None else "does not say what share of it was real"
        raise InputError(
            "prevalence-unusable",
            "prevalence",
            f"the card of {card.name} version {card.version} {why}, so its confidence cannot follow"
            " another share: leave prevalence out, or calibrate the version anew, as"
            " `astrotriton recalibrate` or the export does",
        )
    return stated.beside(model.prevalence)


def guarantee_of(
    tiled: Inference, level: float | None, prevalence: Prevalence | None = None
) -> Guarantee | None:
    """The threshold that vouches for a false discovery rate; None if none is asked for.

    Raises
    ------
    InputError
        ``guarantee-impossible`` if the model was never calibrated, or not on enough exposures.
    """
    if level is None:
        return None
    if (model := tiled.card.confidence_for(tiled.views)) is None:
        raise InputError(
            "guarantee-impossible",
            "max_false_discovery_rate",
            f"{tiled.card.name} was never calibrated, so nothing can be vouched for",
        )
    return model.guarantee(level, prevalence)


def _judge(
    model: ConfidenceModel | None,
    measured: MeasuredSources,
    domain: Domain | None,
    prevalence: Prevalence | None,
) -> Judged:
    probability = measured.sources.spots.probability
    unscored = np.isnan(probability)
    too_bright, seeing_outside = np.zeros(len(probability), bool), False
    if domain is not None:
        too_bright = measured.measurements.snr > domain.snr[1]
        least, most = domain.seeing_fwhm
        seeing_outside = measured.seeing is not None and not least <= measured.seeing <= most
    if model is None:
        nothing = np.full_like(probability, np.nan)
        unlike = too_bright | seeing_outside
        return Judged(probability, nothing, nothing, unlike, too_bright, seeing_outside)
    table = model.standardise(measured.features)
    unlike = model.outliers(table) | too_bright | seeing_outside
    confidence, low, high = model.judge(table, prevalence)
    # Of what is unlike all that was calibrated on, the interval does not exclude the contrary.
    low, high = np.where(unlike, np.fmin(low, 0.5), low), np.where(unlike, np.fmax(high, 0.5), high)
    confidence, low, high = (np.where(unscored, np.nan, one) for one in (confidence, low, high))
    return Judged(confidence, low, high, unlike, too_bright, seeing_outside)
