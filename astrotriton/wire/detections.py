"""Detections: candidates in, scored sources out."""

from datetime import datetime
from math import inf, nan
from typing import Annotated, Generic, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from astrotriton.wire.columns import FLUX_UNIT
from astrotriton.wire.confidence import Derivation, Guarantee, Prevalence
from astrotriton.wire.exposures import ExposureInfo
from astrotriton.wire.fields import CandidateId, FieldError, PixelX, PixelY, Probability
from astrotriton.wire.flags import FLAGS, explained
from astrotriton.wire.models import ModelRef

Outcome = Literal["kept", "merged", "unscored"]

#: Why a candidate was not scored, and what each reason means.
UnscoredReason = Literal["off_image", "not_a_number", "masked", "no_wcs"]

UNSCORED_REASONS: dict[UnscoredReason, str] = {
    "off_image": "The position lies off the exposure, or is none in the sky.",
    "not_a_number": "A coordinate is missing, or is not a finite number.",
    "masked": "The pixel that the source lies on is masked or missing.",
    "no_wcs": "The position is given by RA and Dec, and the exposure has no WCS that can be used.",
}

Label = Literal["real", "artefact", "unsure"]

#: Orders of a list of detections. A minus sign: the largest or latest first.
Sort = Literal[
    "newest",
    "committed",
    "confidence",
    "-confidence",
    "snr",
    "-snr",
    "mag",
    "-mag",
    "entropy",
    "-entropy",
    "observed_at",
    "-observed_at",
]

Id = TypeVar("Id", int, UUID)


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A source found upstream, with the caller's own id for it.

    ``x`` and ``y`` are 0-based pixels, x along columns, (0, 0) the centre of the first pixel;
    ``ra`` and ``dec`` are ICRS degrees. What was not given is NaN. Where there are both, the pixels
    count.
    """

    id: str
    x: float = nan
    y: float = nan
    ra: float = nan
    dec: float = nan


_IN_WORDS = "null, NaN and infinity are no position, and the candidate comes back `unscored`."


class CandidateIn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A source that the caller found in the exposure: by pixels, or by its place in the sky.

    Raises
    ------
    FieldError
        If one of the two coordinates is left out, or all of them.
    """

    x: Annotated[
        PixelX | UnsetType | None,
        Meta(
            description="Column in pixels, 0-based: the centre of the first pixel is (0, 0). Give "
            "`x` and `y`, or `ra` and `dec`; where there are both, the pixels count, unless they "
            f"are no numbers. {_IN_WORDS}",
            examples=[128.9],
        ),
    ] = UNSET
    y: Annotated[
        PixelY | UnsetType | None,
        Meta(description="Row in pixels, 0-based.", examples=[127.7]),
    ] = UNSET
    ra: Annotated[
        float | UnsetType | None,
        Meta(
            description="ICRS right ascension, degrees; the exposure's WCS makes pixels of it.",
            examples=[318.10823],
        ),
    ] = UNSET
    dec: Annotated[
        float | UnsetType | None,
        Meta(description="ICRS declination, degrees.", examples=[-66.01572]),
    ] = UNSET
    id: Annotated[
        CandidateId | int | None,
        Meta(
            description="Your own id, answered as text; no control characters, ends of lines or "
            "noncharacters, and no blanks at its ends. Without one: its place in the list."
        ),
    ] = None

    def __post_init__(self) -> None:
        for pair in (("x", "y"), ("ra", "dec")):
            missing = [name for name in pair if getattr(self, name) is UNSET]
            if len(missing) == 1:
                raise FieldError(missing[0], f"give both {pair[0]} and {pair[1]}")
        if self.x is UNSET and self.ra is UNSET:
            raise FieldError("x", "a candidate needs x and y, or ra and dec")

    def named(self, name: str) -> Candidate:
        """The candidate as `detection` takes it, under a name if it has no id."""
        places = {
            axis: float(value)
            for axis in ("x", "y", "ra", "dec")
            if (value := getattr(self, axis)) not in (None, UNSET) and abs(value) < inf
        }
        return Candidate(id=name if self.id is None else str(self.id), **places)


class _Detection(msgspec.Struct, Generic[Id], frozen=True, kw_only=True):
    """The fields of a detection: each is declared here, and nowhere again.

    ``id`` and ``merged_into`` are what a detection is named by: see the types made of this.
    """

    id: Id
    rank: Annotated[
        int,
        Meta(
            ge=1,
            description="Place by confidence; 1 is the most confident.",
            examples=[1],
            extra={"ucd": "meta.number"},
        ),
    ]
    candidate_id: Annotated[
        str | None,
        Meta(
            description="The caller's id; null for a source that no candidate names.",
            examples=["sn-17"],
            extra={"ucd": "meta.id"},
        ),
    ]
    x: Annotated[
        PixelX | None,
        Meta(
            description="Column in pixels, 0-based: the centre of the first pixel is (0, 0), as in "
            "numpy and SEP. ds9, SExtractor and FITS count from 1: subtract 1. Null for an "
            "`unscored` candidate without pixels.",
            examples=[128.9],
            extra={"ucd": "pos.cartesian.x;instr.det"},
        ),
    ]
    y: Annotated[
        PixelY | None,
        Meta(
            description="Row in pixels, 0-based, by the same convention as `x`.",
            examples=[127.7],
            extra={"ucd": "pos.cartesian.y;instr.det"},
        ),
    ]
    ra: Annotated[
        float | None,
        Meta(
            title="RA",
            description="ICRS degrees; null without a usable WCS.",
            examples=[318.10823],
            extra={"ucd": "pos.eq.ra;meta.main", "unit": "deg"},
        ),
    ]
    dec: Annotated[
        float | None,
        Meta(
            title="Dec",
            description="ICRS degrees; null without a usable WCS.",
            examples=[-66.01572],
            extra={"ucd": "pos.eq.dec;meta.main", "unit": "deg"},
        ),
    ]
    probability: Annotated[
        Probability | None,
        Meta(
            description="The network's largest probability within the match radius.",
            examples=[0.997],
            extra={"ucd": "stat.probability"},
        ),
    ]
    probability_mean: Annotated[
        Probability | None,
        Meta(
            description="Mean probability over the source's footprint.",
            examples=[0.91],
            extra={"ucd": "stat.probability;stat.mean"},
        ),
    ]
    confidence: Annotated[
        Probability | None,
        Meta(
            description="Probability that the source is real; null unless `outcome` is `kept`.",
            examples=[0.98],
            extra={"ucd": "stat.probability;meta.main"},
        ),
    ]
    confidence_low: Annotated[
        Probability | None,
        Meta(
            description="From here to `confidence_high`: its central 90 % over exposures.",
            examples=[0.93],
            extra={"ucd": "stat.probability;stat.min"},
        ),
    ] = None
    confidence_high: Annotated[
        Probability | None,
        Meta(
            description="Upper end of the central 90 % of the confidence.",
            examples=[0.99],
            extra={"ucd": "stat.probability;stat.max"},
        ),
    ] = None
    entropy: Annotated[
        float | None,
        Meta(
            description="Of the confidence, bits: 0 is certain, 1 a coin toss.",
            examples=[0.14],
            extra={"unit": "bit"},
        ),
    ] = None
    tta_std: Annotated[
        float | None,
        Meta(
            description="Scatter of the logit of the probability over eight orientations; only "
            "with `tta`.",
            examples=[None],
        ),
    ] = None
    ensemble_std: Annotated[
        float | None,
        Meta(
            description="Scatter of that logit over the model versions that are loaded; only with "
            "`tta`.",
            examples=[None],
        ),
    ] = None
    is_real: Annotated[
        bool,
        Meta(
            description="Whether the confidence reaches the threshold.",
            examples=[True],
            extra={"ucd": "meta.code.class"},
        ),
    ]
    snr: Annotated[
        float | None,
        Meta(
            title="SNR",
            description="Matched-filter signal-to-noise ratio.",
            examples=[21.4],
            extra={"ucd": "stat.snr"},
        ),
    ]
    snr_err: Annotated[
        float | None,
        Meta(
            description="1-sigma error of the SNR.",
            examples=[1.15],
            extra={"ucd": "stat.error"},
        ),
    ] = None
    flux: Annotated[
        float | None,
        Meta(
            description="Of the fitted PSF, in the unit of the pixels (`exposure.flux_unit`).",
            examples=[5210.0],
            extra={"unit": FLUX_UNIT, "ucd": "phot.flux"},
        ),
    ]
    flux_err: Annotated[
        float | None,
        Meta(
            description="1-sigma error of the flux, in the same unit: the noise around the source, "
            "and what the PSF is uncertain by.",
            examples=[243.0],
            extra={"unit": FLUX_UNIT, "ucd": "stat.error;phot.flux"},
        ),
    ]
    mag: Annotated[
        float | None,
        Meta(
            title="magnitude",
            description="Of the size of the flux, by `exposure.zero_point`: of a fading source "
            "(`polarity` -1) it is what it has lost. Null without a zero point.",
            examples=[20.908],
            extra={"unit": "mag", "ucd": "phot.mag"},
        ),
    ] = None
    mag_err: Annotated[
        float | None,
        Meta(
            description="1-sigma error of the magnitude; that of the zero point is not in it.",
            examples=[0.051],
            extra={"unit": "mag", "ucd": "stat.error;phot.mag"},
        ),
    ] = None
    fwhm: Annotated[
        float | None,
        Meta(
            title="FWHM",
            description="Full width at half maximum, pixels.",
            examples=[4.2],
            extra={"ucd": "instr.det.psf", "unit": "pix"},
        ),
    ]
    elongation: Annotated[
        float | None,
        Meta(
            description="Major over minor axis.",
            examples=[1.08],
            extra={"ucd": "phys.size.axisRatio"},
        ),
    ]
    negative_ratio: Annotated[
        float | None,
        Meta(
            description="Depth of the negative lobe over the height of the peak: near 0 for a "
            "point source, near 1 for a dipole.",
            examples=[0.03],
            extra={"ucd": "phys.size.axisRatio"},
        ),
    ]
    psf_match: Annotated[
        float | None,
        Meta(
            title="PSF match",
            description="Likeness to the PSF: 1 for a noiseless point source.",
            examples=[0.97],
            extra={"ucd": "stat.fit.goodness"},
        ),
    ] = None
    sharpness: Annotated[
        float | None,
        Meta(
            description="Large for a cosmic ray, near 1 for a point source.",
            examples=[1.1],
        ),
    ] = None
    trail: Annotated[
        float | None,
        Meta(
            title="trail (sigma)",
            description="Significance of the strongest straight line through the source, less what "
            "lies around it in all directions, sigma: large for a trail.",
            examples=[0.2],
        ),
    ] = None
    edge_distance: Annotated[
        float | None,
        Meta(
            description="To the nearest edge of the exposure, pixels.",
            examples=[126.8],
            extra={"unit": "pix"},
        ),
    ] = None
    sep_flags: Annotated[
        int | None,
        Meta(
            title="SEP flags",
            description="SEP's flags of the source and of the window around its centroid, or-ed: "
            "1 deblended from a neighbour, 2 or 16 cut off by the edge, 4 too complex to deblend, "
            "8 all in one line, 32 some and 64 all pixels masked. 1 to 8 are of sources that SEP "
            "extracted.",
            examples=[0],
            extra={"ucd": "meta.code.qual", "dtype": "int16"},
        ),
    ] = None
    polarity: Annotated[
        Literal[1, -1],
        Meta(
            description="1 for a brightening, -1 for a fading source.",
            examples=[1],
            extra={"ucd": "meta.code", "dtype": "int16"},
        ),
    ]
    outcome: Annotated[
        Outcome,
        Meta(
            description="`kept`, `merged` into a better detection, or `unscored` (see "
            "`unscored_reason`).",
            examples=["kept"],
            extra={"ucd": "meta.code.status"},
        ),
    ]
    unscored_reason: Annotated[
        UnscoredReason | None,
        Meta(
            description="Why an `unscored` one was not scored:\n\n"
            + "\n".join(f"- `{name}`: {text}" for name, text in UNSCORED_REASONS.items()),
            examples=[None],
            extra={"ucd": "meta.code.error"},
        ),
    ] = None
    merged_into: Id | None
    flags: Annotated[
        tuple[str, ...],
        Meta(
            description="What a user should know about it:\n\n" + explained(FLAGS),
            examples=[[], ["edge", "dipole"]],
            extra={"ucd": "meta.code.qual"},
        ),
    ]


class Detection(_Detection[int], frozen=True, kw_only=True):
    """One scored source, as the science answers it; ``id`` is its place in the list, from 0.

    A candidate always comes back as one, whatever became of it. ``x`` and ``y`` are the sub-pixel
    centroid, or the candidate's own position where there is none within 2 px or the pixel is
    masked. A candidate that lies nowhere on the exposure comes back with the position that it was
    sent with, as far as that is one. What cannot be told of an unscored or merged one is None.
    """


class ScoredDetection(_Detection[UUID], frozen=True, kw_only=True):
    """A scored source; a candidate always comes back as one."""

    id: Annotated[
        UUID,
        Meta(
            examples=["019ac5b0-6f0e-7c11-9d0a-2f4f1d9e7b52"],
            extra={"ucd": "meta.id;meta.main"},
        ),
    ]
    merged_into: Annotated[
        UUID | None,
        Meta(description="Id of the detection that this one was merged into.", examples=[None]),
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
    """Some of the detections that match, in the order that was asked for."""

    detections: list[StoredDetection]
    next: Annotated[
        UUID | None,
        Meta(
            description="Pass it as `after` for the next page; null on the last. In the order of "
            "commits it is never null once there are detections: pass it later, for those that "
            "have come since."
        ),
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
    prevalence: Annotated[
        Prevalence | None,
        Meta(description="The share of real sources that it holds for, as in the run."),
    ] = None
    flags: tuple[str, ...]
