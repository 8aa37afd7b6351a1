"""Detections: candidates in, scored sources out."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import Meta

from astrotriton.wire.confidence import Derivation, Guarantee
from astrotriton.wire.exposures import ExposureInfo
from astrotriton.wire.fields import Name, PixelX, PixelY, Probability
from astrotriton.wire.flags import DESCRIPTION as _FLAGS
from astrotriton.wire.models import ModelRef

Outcome = Literal["kept", "merged", "unscored"]


Label = Literal["real", "artefact", "unsure"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A source found upstream, with the caller's own id for it.

    ``x`` and ``y`` are 0-based pixels, x along columns, (0, 0) the centre of the first pixel.
    """

    id: str
    x: float
    y: float


class CandidateIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source that the caller found in the exposure."""

    x: PixelX
    y: PixelY
    id: Annotated[
        Name | int | None,
        Meta(description="Your own id, answered as text. Without one: its place in the list."),
    ] = None


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """One scored source. A candidate always comes back as one, whatever became of it.

    Attributes
    ----------
    candidate_id
        The caller's id; None for a source that the network found and no candidate names.
    x, y
        Sub-pixel centroid, 0-based pixels; the candidate's own position where there is none within
        2 px, or the pixel is masked.
    ra, dec
        ICRS degrees; None without a usable WCS (flag ``no_wcs``).
    probability
        The network's largest probability within the match radius, 0 to 1; None if unscored.
    probability_mean
        Mean probability over the source's footprint; None if unscored.
    confidence
        Probability that the source is real, 0 to 1; None if unscored.
    confidence_low, confidence_high
        The central 90 % of that probability over exposures; None if unscored or uncalibrated.
    entropy
        Predictive entropy of the confidence, bits: 0 for certainty, 1 for a coin toss.
    tta_std
        Standard deviation of the logit of the probability over the eight orientations that the
        network was shown; None without test-time augmentation.
    ensemble_std
        Standard deviation of that logit over the versions of the model that are served; None
        without test-time augmentation, or where only one is served.
    is_real
        Whether the confidence reaches the threshold.
    snr, snr_err, flux, flux_err
        Matched-filter signal-to-noise ratio, and the flux in counts, with their 1-sigma errors.
    fwhm, elongation
        Full width at half maximum in pixels; major over minor axis.
    psf_match, sharpness, negative_ratio, trail
        Likeness to a PSF, and measures of cosmic rays, dipoles and trails: see
        `detection.quality.Measurements`.
    edge_distance
        Distance to the nearest edge of the exposure, pixels.
    sep_flags
        SEP's flags of the source and of the window around its centroid, or-ed: 1 deblended from a
        neighbour, 2 or 16 cut off by the edge, 4 too complex to deblend, 8 all in one line, 32 some
        and 64 all pixels masked. 1 to 8 are of sources that SEP extracted; None if merged.
    polarity
        1 for a brightening, -1 for a fading source.
    outcome
        ``kept``; ``merged`` into a better detection of the same source; or ``unscored``.
    merged_into
        Index, in the list answered, of the detection that this one was merged into.
    flags
        Sorted names of what a user should know (``edge``, ``masked``, ``dipole``, ...).
    """

    candidate_id: str | None
    x: float
    y: float
    ra: float | None = None
    dec: float | None = None
    probability: float | None = None
    probability_mean: float | None = None
    confidence: float | None = None
    confidence_low: float | None = None
    confidence_high: float | None = None
    entropy: float | None = None
    tta_std: float | None = None
    ensemble_std: float | None = None
    is_real: bool = False
    snr: float | None = None
    snr_err: float | None = None
    flux: float | None = None
    flux_err: float | None = None
    fwhm: float | None = None
    elongation: float | None = None
    psf_match: float | None = None
    sharpness: float | None = None
    negative_ratio: float | None = None
    trail: float | None = None
    edge_distance: float | None = None
    sep_flags: int | None = None
    polarity: Literal[1, -1] = 1
    outcome: Outcome = "kept"
    merged_into: int | None = None
    flags: tuple[str, ...] = ()


class ScoredDetection(msgspec.Struct, frozen=True, kw_only=True):
    """A scored source; a candidate always comes back as one."""

    id: UUID
    rank: Annotated[int, Meta(ge=1, description="Place by confidence; 1 is the most confident.")]
    candidate_id: Annotated[
        str | None,
        Meta(description="The caller's id; null for a source that no candidate names."),
    ]
    x: PixelX
    y: PixelY
    ra: Annotated[float | None, Meta(description="ICRS degrees; null without a usable WCS.")]
    dec: Annotated[float | None, Meta(description="ICRS degrees; null without a usable WCS.")]
    probability: Annotated[
        Probability | None,
        Meta(description="The network's largest probability within the match radius."),
    ]
    probability_mean: Annotated[
        Probability | None, Meta(description="Mean probability over the source's footprint.")
    ]
    confidence: Annotated[
        Probability | None,
        Meta(description="Probability that the source is real; null unless `outcome` is `kept`."),
    ]
    confidence_low: Annotated[
        Probability | None,
        Meta(description="From here to `confidence_high`: its central 90 % over exposures."),
    ] = None
    confidence_high: Probability | None = None
    entropy: Annotated[
        float | None, Meta(description="Of the confidence, bits: 0 is certain, 1 a coin toss.")
    ] = None
    tta_std: Annotated[
        float | None,
        Meta(
            description="Scatter of the logit of the probability over eight orientations; only "
            "with `tta`."
        ),
    ] = None
    ensemble_std: Annotated[
        float | None, Meta(description="Between the model versions that are loaded.")
    ] = None
    is_real: Annotated[bool, Meta(description="Whether the confidence reaches the threshold.")]
    snr: Annotated[float | None, Meta(description="Matched-filter signal-to-noise ratio.")]
    snr_err: Annotated[float | None, Meta(description="Its 1-sigma error.")] = None
    flux: Annotated[float | None, Meta(description="Counts.")]
    flux_err: Annotated[float | None, Meta(description="1-sigma error of the flux, counts.")]
    fwhm: Annotated[float | None, Meta(description="Full width at half maximum, pixels.")]
    elongation: Annotated[float | None, Meta(description="Major over minor axis.")]
    negative_ratio: Annotated[
        float | None,
        Meta(
            description="Depth of the negative lobe over the height of the peak: near 0 for a "
            "point source, near 1 for a dipole."
        ),
    ]
    psf_match: Annotated[float | None, Meta(description="Likeness to the PSF.")] = None
    sharpness: Annotated[
        float | None, Meta(description="Large for a cosmic ray, near 1 for a point source.")
    ] = None
    trail: Annotated[float | None, Meta(description="Large for a trail.")] = None
    edge_distance: Annotated[
        float | None, Meta(description="To the nearest edge of the exposure, pixels.")
    ] = None
    sep_flags: Annotated[
        int | None,
        Meta(
            description="SEP's flags, or-ed: 1 deblended from a neighbour, 2 or 16 cut off by the "
            "edge, 4 too complex to deblend, 8 all in one line, 32 some and 64 all pixels masked."
        ),
    ] = None
    polarity: Annotated[
        Literal[1, -1], Meta(description="1 for a brightening, -1 for a fading source.")
    ]
    outcome: Annotated[
        Outcome,
        Meta(description="`kept`, `merged` into a better detection, or `unscored` (see `flags`)."),
    ]
    merged_into: Annotated[
        UUID | None, Meta(description="Id of the detection that this one was merged into.")
    ]
    flags: Annotated[
        tuple[str, ...],
        Meta(description=_FLAGS, examples=[["edge", "dipole"]]),
    ]


class StoredDetection(ScoredDetection, frozen=True, kw_only=True):
    """A detection as it was answered, with the run that it belongs to."""

    run_id: UUID
    created_at: datetime
    threshold: Probability
    model: ModelRef
    exposure: ExposureInfo
    label: Annotated[Label | None, Meta(description="What a person said of it last.")] = None


class DetectionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the detections that match, the newest first."""

    detections: list[StoredDetection]
    next: Annotated[
        UUID | None, Meta(description="Pass it as `after` for the next page; null on the last.")
    ]


class LabelIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A person's verdict on a detection; null withdraws it."""

    label: Label | None
    comment: Annotated[str, Meta(max_length=2000, pattern=r"^[^\x00]*$")] | None = None


class ConfidenceDerivation(msgspec.Struct, frozen=True, kw_only=True):
    """How a confidence came about."""

    detection_id: UUID
    model: ModelRef
    probability: Probability | None
    probability_mean: Probability | None
    confidence: Probability | None
    confidence_low: Probability | None
    confidence_high: Probability | None
    derivation: Annotated[
        Derivation | None,
        Meta(
            description="Each quality term and its weight, their sum, and its calibration. Null if "
            "the model was never calibrated (the confidence is then the probability), the "
            "detection was not scored, or an earlier release scored it."
        ),
    ]
    tta: bool
    entropy: float | None
    tta_std: float | None
    ensemble_std: float | None
    threshold: float
    is_real: bool
    guarantee: Guarantee | None
    flags: tuple[str, ...]
