"""What goes into and comes out of scoring."""

from typing import Literal

import msgspec

Outcome = Literal["kept", "merged", "unscored"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A source found upstream, with the caller's own id for it.

    ``x`` and ``y`` are 0-based pixels, x along columns, (0, 0) the centre of the first pixel.
    """

    id: str
    x: float
    y: float


class ImageQuality(msgspec.Struct, frozen=True, kw_only=True):
    """The exposure as a whole.

    Attributes
    ----------
    background
        Median of the background map, counts.
    background_gradient
        Largest minus smallest of the background map, in units of ``noise``.
    noise
        Median of the background's rms map, counts.
    depth
        Flux of a point source of SNR 5, counts.
    seeing_fwhm
        Median full width at half maximum of point-like sources, pixels; None with fewer than 3.
    masked_fraction
        Share of pixels that are NaN, infinite, blank or excluded by a plane.
    saturated_fraction
        Share of pixels from the header's ``SATURATE`` on; None without it.
    """

    background: float
    background_gradient: float
    noise: float
    depth: float
    seeing_fwhm: float | None
    masked_fraction: float
    saturated_fraction: float | None


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
    augmentation
        Standard deviation of the logit of the probability over the eight orientations that the
        network was shown; None unless full uncertainty was asked for.
    disagreement
        Standard deviation of that logit over the versions of the model that are served; None unless
        full uncertainty was asked for and there are several.
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
    augmentation: float | None = None
    disagreement: float | None = None
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
