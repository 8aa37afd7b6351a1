"""Whether exposures still look like those that a version was made for.

Sources of one exposure share its seeing and its noise, so they are not independent of each other.
Exposures are: each one is described by a row of numbers, and rows are what is compared. A window is
tested column by column (two-sample Kolmogorov-Smirnov, Bonferroni), and the calibrated scores are
followed exposure by exposure, so that a slow change is found without choosing windows.
"""

import io
from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import Values
from astrotriton.detection.scoring.scored import Scored
from astrotriton.wire.drift import Feature, Trend

BASELINE_FILE = "baseline.npz"

#: The chance that a window of exposures like the baseline is called drifted.
FALSE_ALARMS = 0.01
#: Exposures that a window needs.
LEAST_EXPOSURES = 20
#: Exposures like the baseline between two false alarms of the sequential check, on average.
RUN_LENGTH = 100_000

_CLEAR = 5.0  # SNR

#: What describes an exposure, in the order of a row. Those of sources are over the kept ones, and
#: those of their shapes over such of an SNR of 5 and more, of either sign.
DESCRIPTORS = (
    "background",
    "background_gradient",
    "noise",
    "depth",
    "seeing_fwhm",
    "masked_fraction",
    "saturated_fraction",
    "sources_per_megapixel",
    "snr_median",
    "fwhm_median",
    "elongation_median",
    "psf_match_median",
    "sharpness_p90",
    "negative_ratio_p90",
    "trail_p90",
    "probability_median",
    "confidence_mean",
    "real_share",
)
_SCORE = DESCRIPTORS.index("confidence_mean")

_BETS = (-1.5, -1.0, -0.5, 0.5, 1.0, 1.5)
_TIES = 1


def describe(scored: Scored) -> Values:
    """The row of an exposure, float64 (descriptors,), NaN for what is unknown."""
    image = scored.image
    kept = [one for one in scored.detections if one.confidence is not None]
    confidences = _as_calibrated(scored, [one.confidence or 0.0 for one in kept])
    # The shape of a fainter one is that of the noise, and there are many of them.
    clear = [one for one in kept if one.snr is not None and abs(one.snr) >= _CLEAR]

    def of_sources(field: str, quantile: float = 0.5) -> float:
        values = [value for one in clear if (value := getattr(one, field)) is not None]
        return _quantile(values, quantile) if values else np.nan

    megapixels = scored.shape[0] * scored.shape[1] / 1e6
    row: dict[str, float | None] = {
        "background": image.background,
        "background_gradient": image.background_gradient,
        "noise": image.noise,
        "depth": image.depth,
        "seeing_fwhm": image.seeing_fwhm,
        "masked_fraction": image.masked_fraction,
        "saturated_fraction": image.saturated_fraction,
        "sources_per_megapixel": len(kept) / megapixels,
        "snr_median": _median([abs(one.snr) for one in kept if one.snr is not None]),
        "fwhm_median": of_sources("fwhm"),
        "elongation_median": of_sources("elongation"),
        "psf_match_median": of_sources("psf_match"),
        "sharpness_p90": of_sources("sharpness", 0.9),
        "negative_ratio_p90": of_sources("negative_ratio", 0.9),
        "trail_p90": of_sources("trail", 0.9),
        "probability_median": _median(
            [one.probability for one in kept if one.probability is not None]
        ),
        "confidence_mean": fmean(confidences) if kept else np.nan,
        "real_share": fmean(one >= scored.threshold for one in confidences) if kept else np.nan,
    }
    values = (row[name] for name in DESCRIPTORS)
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _as_calibrated(scored: Scored, confidences: list[float]) -> list[float]:
    """Confidences for the share of real sources of the calibration, as in every baseline."""
    if scored.prevalence is None or not confidences:
        return confidences
    with np.errstate(divide="ignore"):
        logits = np.log(confidences) - np.log1p(-np.array(confidences))
    return (1.0 / (1.0 + np.exp(scored.prevalence.shift - logits))).tolist()  # type: ignore[no-any-return]


def _median(values: list[float]) -> float:
    return _quantile(values, 0.5) if values else np.nan


def _quantile(values: list[float], share: float) -> float:
    """What `numpy.quantile` answers; for tens of values most of its time is its own."""
    ordered, place = sorted(values), share * (len(values) - 1)
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@dataclass(frozen=True, slots=True)
class Baseline:
    """The exposures that a version was measured on before it was served.

    Attributes
    ----------
    rows
        float64 (exposures, descriptors), as `describe` makes them.
    description
        What they are, in words.
    """

    rows: Values
    description: str

    def to_npz(self) -> bytes:
        """The content of a ``baseline.npz``."""
        stream = io.BytesIO()
        np.savez(
            stream,
            names=np.array(DESCRIPTORS),
            rows=self.rows,
            description=np.array(self.description),
        )
        return stream.getvalue()

    @classmethod
    def from_npz(cls, content: bytes) -> Self:
        """Read the content of a ``baseline.npz``; descriptors that it lacks are unknown.

        Raises
        ------
        ValueError, KeyError, zipfile.BadZipFile
            If it is none.
        """
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            names = [str(name) for name in arrays["names"]]
            found = dict(zip(names, arrays["rows"].astype(np.float64).T, strict=True))
            count = len(arrays["rows"])
            unknown = np.full(count, np.nan)
            rows = np.stack([found.get(name, unknown) for name in DESCRIPTORS], axis=1)
            return cls(rows, str(arrays["description"]))


def limit_of_p(false_alarms: float = FALSE_ALARMS) -> float:
    """The p-value of a single descriptor below which the window has drifted."""
    return false_alarms / len(DESCRIPTORS)


def compare(baseline: Values, live: Values) -> list[Feature]:
    """Every descriptor of a window beside the baseline, those that drifted most first.

    Parameters
    ----------
    baseline, live
        float64 (exposures, descriptors).
    """
    found = [_feature(*column) for column in zip(DESCRIPTORS, baseline.T, live.T, strict=True)]
    return sorted(found, key=lambda one: (not one.drifted, -(one.distance or 0.0)))


def _feature(name: str, baseline: Values, live: Values) -> Feature:
    from scipy.stats import ks_2samp  # takes a second, which no gateway's start need wait for

    known, seen = baseline[np.isfinite(baseline)], live[np.isfinite(live)]
    p_value = distance = None
    if min(len(known), len(seen)) >= LEAST_EXPOSURES:
        test = ks_2samp(known, seen)
        p_value, distance = float(test.pvalue), float(test.statistic)
    return Feature(
        name=name,
        drifted=p_value is not None and p_value < limit_of_p(),
        p_value=p_value,
        distance=distance,
        baseline_median=float(np.median(known)) if len(known) else None,
        live_median=float(np.median(seen)) if len(seen) else None,
        exposures=len(seen),
    )


def follow(baseline: Values, live: Values, run_length: int = RUN_LENGTH) -> Trend:
    """Follow the mean calibrated score of exposures, in their order.

    Each is ranked among all before it, the baseline's included (a conformal p-value). While
    exposures are exchangeable with the baseline these are independent and uniform, whatever their
    distribution, so that no bet on them gains on average. The statistic is the mean of
    Shiryaev-Roberts sums of such bets, on high, low, extreme and middling ranks; less the number of
    exposures it is a martingale, so that it takes ``run_length`` exposures on average to reach
    ``run_length`` by chance, and within n exposures it does so with probability n / ``run_length``
    at most (Doob). Volkhonskiy et al. 2017; Vovk et al. 2021.

    Parameters
    ----------
    baseline, live
        float64 (exposures, descriptors); rows without a score are passed over.
    run_length
        Where it alarms.
    """
    before = sorted(_scores(baseline))
    rng = np.random.default_rng(_TIES)
    bets = np.array(_BETS)
    evidence = np.zeros(2 * len(bets))
    alarmed_after = None
    scores = _scores(live)
    for count, score in enumerate(scores, start=1):
        below, upto = bisect_left(before, score), bisect_right(before, score)
        rank = (below + rng.random() * (upto - below + 1)) / (len(before) + 1)
        insort(before, score)
        odds = 1.0 + np.concatenate([bets * (rank - 0.5), bets * (abs(2.0 * rank - 1.0) - 0.5)])
        evidence = np.minimum((1.0 + evidence) * odds, 1e300)
        if alarmed_after is None and evidence.mean() >= run_length:
            alarmed_after = count
    return Trend(
        alarmed_after=alarmed_after,
        evidence=float(evidence.mean()),
        run_length=run_length,
        exposures=len(scores),
    )


def _scores(rows: Values) -> list[float]:
    column = rows[:, _SCORE] if len(rows) else np.empty(0)
    known: list[float] = column[np.isfinite(column)].tolist()
    return known


def miscalibration(confidence: Values, real: NDArray[np.bool_]) -> float:
    """Spiegelhalter's (1986) statistic: of unit normal distribution if confidences hold.

    NaN if every confidence is 0, 1 or a half.
    """
    expected = np.sum((1.0 - 2.0 * confidence) ** 2 * confidence * (1.0 - confidence))
    surprise = np.sum((real - confidence) * (1.0 - 2.0 * confidence))
    return float(surprise / np.sqrt(expected)) if expected > 0.0 else np.nan


def rows_of(described: Sequence[Mapping[str, float | None]]) -> Values:
    """Rows out of what was kept by name; descriptors that were not kept then are unknown."""
    values = [[row.get(name) for name in DESCRIPTORS] for row in described]
    return np.array(values, np.float64).reshape(-1, len(DESCRIPTORS))
