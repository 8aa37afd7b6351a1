"""The way of one exposure: prepare, let the network answer tile by tile, finish."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from detection.candidates import check_candidates, extract_candidates
from detection.confidence import Values, features
from detection.exposure import Exposure, Limits, read_exposure
from detection.model import UNetModel
from detection.peaks import Positions, find_peaks, suppress
from detection.preprocess import Image, Normalised, normalise
from detection.quality import DEFAULT_FWHM, Measurements, centroids, measure, seeing
from detection.tiling import Tiling
from detection.types import Candidate, Detection, ImageQuality

# Probability is read within this distance of a source, pixels: the radius of the training target.
_APERTURE = 2
_DIPOLE = 0.5


@dataclass(slots=True)
class Work:
    """An exposure on its way: made by `prepare`, filled tile by tile, read by `finish`.

    Attributes
    ----------
    exposure, normalised
        What was sent, and what the network sees of it.
    tiles
        The network's input and, as answers come in, its output.
    candidates
        The caller's, or those that SEP found if the caller sent none (``extracted``).
    card
        The model that is asked.
    """

    exposure: Exposure
    normalised: Normalised
    tiles: Tiling
    candidates: Sequence[Candidate]
    extracted: bool
    card: UNetModel

    def __len__(self) -> int:
        """Number of tiles."""
        return len(self.tiles)

    def batch(self, start: int, stop: int) -> Image:
        """Tiles ``start`` to ``stop``, float32 (N, 1, H, W)."""
        return self.tiles.batch(start, stop)

    def accept(self, start: int, probabilities: Image) -> None:
        """Take the network's answer to the tiles from ``start`` on, float32 (N, 1, H, W)."""
        self.tiles.accept(start, probabilities)


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an exposure.

    Attributes
    ----------
    detections
        Kept ones by falling confidence, then those that could not be scored, then merged ones.
    image
        Quality of the exposure as a whole.
    hdu
        The HDU that was scored.
    shape
        Its rows and columns, pixels.
    tiles
        Number of tiles that the network answered.
    extracted
        Whether SEP found the candidates because none were sent.
    flags
        What is odd about the exposure.
    """

    detections: list[Detection]
    image: ImageQuality
    hdu: str
    shape: tuple[int, int]
    tiles: int
    extracted: bool
    flags: tuple[str, ...]


def prepare(
    content: bytes,
    card: UNetModel,
    candidates: Sequence[Candidate] | None = None,
    *,
    hdu: int | str | None = None,
    limits: Limits | None = None,
) -> Work:
    """Read and normalise an exposure, and cut it into tiles.

    Parameters
    ----------
    content
        A FITS or .npy file.
    card
        The model that will be asked.
    candidates
        Sources to score; None: SEP extracts them.
    hdu
        Index or EXTNAME of the image, FITS only.
    limits
        Bounds on the exposure and the number of candidates.

    Raises
    ------
    InputError
        If the exposure or a candidate cannot be scored; the field says which.
    """
    limits = limits or Limits()
    exposure = read_exposure(content, hdu=hdu, limits=limits)
    return prepare_exposure(exposure, card, candidates, limits=limits)


def prepare_exposure(
    exposure: Exposure,
    card: UNetModel,
    candidates: Sequence[Candidate] | None = None,
    *,
    limits: Limits | None = None,
) -> Work:
    """Do what `prepare` does, for an exposure that has been read already."""
    limits = limits or Limits()
    if candidates is not None:
        check_candidates(candidates, exposure.data.shape, limits.max_candidates)
    normalised = normalise(exposure.data, exposure.mask, card.normalisation)
    extracted = candidates is None
    return Work(
        exposure=exposure,
        normalised=normalised,
        tiles=Tiling(normalised.image, card.tile_size, card.overlap),
        candidates=extract_candidates(normalised, limits.max_candidates)
        if candidates is None
        else candidates,
        extracted=extracted,
        card=card,
    )


@dataclass(slots=True)
class Sources:
    """The distinct sources of an exposure, and which candidate belongs to which.

    Attributes
    ----------
    positions
        float64 (N, 2), x and y, 0-based pixels.
    probability, probability_mean
        float64 (N,), NaN for a source that could not be scored.
    candidate
        intp (N,), index of the candidate that stands for the source, -1 for none.
    owner
        intp (candidates,), index of the source that a candidate belongs to.
    """

    positions: Positions
    probability: Values
    probability_mean: Values
    candidate: NDArray[np.intp]
    owner: NDArray[np.intp]


def find_sources(work: Work) -> Sources:
    """Join the network's peaks and the candidates into distinct sources.

    A candidate within the card's ``nms_radius`` of a peak belongs to it, and the nearest one stands
    for it. Candidates without a peak are sources of their own, of which the less probable of two
    within that radius is merged into the other.
    """
    card, mask, probability = work.card, work.normalised.mask, work.tiles.probability
    radius = card.nms_radius
    peaks, _ = find_peaks(probability, mask, card.threshold, radius)
    peaks = centroids(work.normalised, peaks, DEFAULT_FWHM)
    asked = np.array([(c.x, c.y) for c in work.candidates], dtype=np.float64).reshape(-1, 2)

    owner = np.full(len(asked), -1, np.intp)
    candidate = np.full(len(peaks), -1, np.intp)
    if len(peaks) and len(asked):
        distance, nearest = map(np.asarray, KDTree(peaks).query(asked, distance_upper_bound=radius))
        matched = np.isfinite(distance)
        owner[matched] = nearest[matched]
        for i in np.argsort(distance)[: np.count_nonzero(matched)]:
            if candidate[owner[i]] < 0:
                candidate[owner[i]] = i

    alone = np.flatnonzero(owner < 0)
    own_peak, _ = _read(probability, mask, asked[alone])
    alone = alone[np.argsort(-np.nan_to_num(own_peak, nan=-1.0), kind="stable")]
    leader = suppress(asked[alone], radius)
    leads = leader == np.arange(len(alone))
    number = len(peaks) + np.cumsum(leads) - 1
    owner[alone] = number[leader]

    positions = np.concatenate([peaks, asked[alone[leads]]])
    highest, mean = _read(probability, mask, positions)
    return Sources(
        positions, highest, mean, np.concatenate([candidate, alone[leads]]).astype(np.intp), owner
    )


def _read(
    probability: Image, mask: NDArray[np.bool_], positions: Positions
) -> tuple[Values, Values]:
    """Largest and mean probability within 2 px, float64 (N,); NaN where the centre is masked."""
    height, width = mask.shape
    grid = np.arange(-_APERTURE, _APERTURE + 1)
    dy, dx = (offset.ravel() for offset in np.meshgrid(grid, grid, indexing="ij"))
    near = dx**2 + dy**2 <= _APERTURE**2
    columns = np.clip(np.rint(positions[:, 0]).astype(int), 0, width - 1)[:, None] + dx[near]
    rows = np.clip(np.rint(positions[:, 1]).astype(int), 0, height - 1)[:, None] + dy[near]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows, columns = np.where(inside, rows, 0), np.where(inside, columns, 0)
    values = probability[rows, columns].astype(np.float64)
    values[~inside | mask[rows, columns]] = np.nan
    centre = np.isnan(values[:, np.count_nonzero(near) // 2])
    values[centre] = np.nan
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    highest = np.where(count > 0, np.where(known, values, -np.inf).max(axis=1), np.nan)
    mean = np.where(
        count > 0, np.where(known, values, 0.0).sum(axis=1) / np.maximum(count, 1), np.nan
    )
    return highest, mean


def measure_sources(work: Work, sources: Sources) -> tuple[Measurements, float | None]:
    """Measure the sources, with a matched filter as wide as the seeing where that can be told."""
    first = measure(work.normalised, sources.positions)
    fwhm = seeing(first, sources.probability)
    if fwhm is None:
        return first, None
    return measure(work.normalised, sources.positions, float(np.clip(fwhm, 1.5, 10.0))), fwhm


def finish(work: Work, *, threshold: float) -> Scored:
    """Score the sources of an exposure whose tiles have all been answered.

    Parameters
    ----------
    work
        With every tile accepted.
    threshold
        Least confidence of a detection that is called real.
    """
    sources = find_sources(work)
    measured, fwhm = measure_sources(work, sources)
    confidence = sources.probability
    if work.card.confidence is not None:
        values = features(sources.probability, sources.probability_mean, measured, fwhm)
        confidence = work.card.confidence(values)
    confidence = np.where(np.isnan(sources.probability), np.nan, confidence)
    ra, dec = work.exposure.sky(sources.positions[:, 0], sources.positions[:, 1])

    # NaN, an unscored source, sorts last.
    order = np.argsort(-confidence, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    detections = [
        _detection(work, sources, measured, int(i), float(confidence[i]), ra[i], dec[i], threshold)
        for i in order
    ]
    detections += _merged(work, sources, place)
    quality = work.normalised
    return Scored(
        detections=detections,
        image=ImageQuality(
            background=quality.background,
            background_gradient=quality.gradient,
            noise=quality.noise,
            seeing_fwhm=fwhm,
            masked_fraction=float(np.mean(quality.mask)),
        ),
        hdu=work.exposure.name,
        shape=work.exposure.data.shape,
        tiles=len(work.tiles),
        extracted=work.extracted,
        flags=tuple(sorted(work.exposure.flags)),
    )


def _detection(
    work: Work,
    sources: Sources,
    measured: Measurements,
    i: int,
    confidence: float,
    ra: float,
    dec: float,
    threshold: float,
) -> Detection:
    def known(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    candidate = sources.candidate[i]
    scored = bool(np.isfinite(confidence))
    amplitude = measured.amplitude[i]
    return Detection(
        candidate_id=work.candidates[candidate].id if candidate >= 0 else None,
        x=float(sources.positions[i, 0]),
        y=float(sources.positions[i, 1]),
        ra=known(ra),
        dec=known(dec),
        probability=known(sources.probability[i]),
        probability_mean=known(sources.probability_mean[i]),
        confidence=known(confidence),
        is_real=scored and confidence >= threshold,
        snr=known(measured.snr[i]),
        flux=known(measured.flux[i]),
        flux_err=known(measured.flux_err[i]),
        fwhm=known(measured.fwhm[i]),
        elongation=known(measured.elongation[i]),
        negative_ratio=known(measured.negative_ratio[i]),
        polarity=-1 if amplitude < 0 else 1,
        outcome="kept" if scored else "unscored",
        flags=_flags(work, measured, i, candidate=int(candidate), scored=scored),
    )


def _flags(
    work: Work, measured: Measurements, i: int, *, candidate: int, scored: bool
) -> tuple[str, ...]:
    raised = {
        "no_candidate": candidate < 0,
        "masked": not scored,
        "masked_near": scored and measured.masked_fraction[i] > 0.0,
        "edge": measured.edge_distance[i] < DEFAULT_FWHM,
        "dipole": measured.negative_ratio[i] > _DIPOLE,
        "negative": measured.amplitude[i] < 0.0,
        "uncalibrated": work.card.confidence is None,
    }
    return tuple(sorted({name for name, on in raised.items() if on} | work.exposure.flags))


def _merged(work: Work, sources: Sources, place: NDArray[np.intp]) -> list[Detection]:
    """The candidates that another one of the same source stands for."""
    merged = [
        (candidate, int(place[owner]))
        for i, (candidate, owner) in enumerate(zip(work.candidates, sources.owner, strict=True))
        if sources.candidate[owner] != i
    ]
    positions = np.array([(c.x, c.y) for c, _ in merged], dtype=np.float64).reshape(-1, 2)
    sky = work.exposure.sky(positions[:, 0], positions[:, 1])
    return [
        Detection(
            candidate_id=candidate.id,
            x=candidate.x,
            y=candidate.y,
            ra=None if np.isnan(ra) else float(ra),
            dec=None if np.isnan(dec) else float(dec),
            outcome="merged",
            merged_into=into,
            flags=tuple(sorted(work.exposure.flags)),
        )
        for (candidate, into), (ra, dec) in zip(merged, sky.T, strict=True)
    ]
