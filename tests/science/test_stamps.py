"""Real alerts of ZTF and Rubin: nothing is fitted to them, and nothing may be.

See ../shared/data/README.md for what is certain of each. A machine's score is not truth, but above
0.9 and below 0.3 it is mostly right.
"""

import csv
import gzip
import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from astropy.io import fits
from sklearn.metrics import roc_auc_score

from astrotriton.detection.scoring.score import Scored
from astrotriton.wire.detections import Candidate
from tests.science.conftest import real

pytestmark = pytest.mark.science


class Alerts(NamedTuple):
    """What is known of each alert, and the confidence that it gets; float64 (N,) each."""

    confidence: np.ndarray
    snr: np.ndarray
    deep_score: np.ndarray
    positive: np.ndarray
    asteroid: np.ndarray


def rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(real(name).decode())))


def column(table: list[dict[str, str]], name: str) -> np.ndarray:
    return np.array([float(row[name] or "nan") for row in table])


def confidence(score: Callable[..., Scored], image: np.ndarray, x: float, y: float) -> float:
    result = score(np.asarray(image, np.float32), [Candidate(id="alert", x=x, y=y)])
    (found,) = (one for one in result.detections if one.candidate_id == "alert")
    return found.confidence or 0.0


@pytest.fixture(scope="module")
def ztf(score: Callable[..., Scored]) -> Alerts:
    known = rows("stamps/ztf.csv")
    stamps = np.load(io.BytesIO(real("stamps/ztf.npz")))["difference"]
    distance = column(known, "ssdistnr")
    return Alerts(
        np.array([confidence(score, stamp, 31.0, 31.0) for stamp in stamps]),
        column(known, "snr"),
        column(known, "deep_score"),
        column(known, "positive") == 1,
        (distance >= 0.0) & (distance < 1.0),
    )


def test_bright_sources_are_real(ztf: Alerts) -> None:
    sure = (ztf.deep_score > 0.9) & (ztf.snr > 20.0)
    called = ztf.confidence[sure] >= 0.5
    print(f"of {sure.sum()} sure ones above SNR 20, {called.mean():.3f} are called real")
    assert called.mean() >= 0.98


def test_asteroids_are_real(ztf: Alerts) -> None:
    called = ztf.confidence[ztf.asteroid] >= 0.5
    print(f"of {called.size} known asteroids of ZTF, {called.mean():.3f} are called real")
    assert called.mean() >= 0.9


@pytest.mark.parametrize(("positive", "least"), [(True, 0.9), (False, 0.85)])
def test_sure_ones_rank_above_bogus_ones(ztf: Alerts, positive: bool, least: float) -> None:
    judged = (ztf.positive == positive) & ((ztf.deep_score > 0.9) | (ztf.deep_score < 0.3))
    area = roc_auc_score(ztf.deep_score[judged] > 0.9, ztf.confidence[judged])
    print(f"area under the ROC curve {area:.3f}, {'positive' if positive else 'negative'} ones")
    assert area >= least


def test_rubins_asteroids_are_real(score: Callable[..., Scored]) -> None:
    known = [row for row in rows("stamps/rubin.csv") if row["sso"]]
    found = []
    for row in known:
        content = gzip.decompress(real(f"stamps/rubin/{row['alert']}.fits.gz"))
        with fits.open(io.BytesIO(content)) as hdus:
            image = hdus["DIFFERENCE"].data * (-1.0 if row["negative"] == "True" else 1.0)
        found.append(confidence(score, image, float(row["x"]), float(row["y"])))
    print({row["snr"][:5]: round(one, 3) for row, one in zip(known, found, strict=True)})
    assert np.mean(np.array(found) >= 0.5) >= 0.75


def test_brightness_is_no_reason_for_doubt(score: Callable[..., Scored]) -> None:
    """Nine point sources of SNR 10 to 500 in white noise, on a grid."""
    result = score(real("cases/bright_point_sources.fits.gz"))
    for x in (45, 128, 211):
        for y in (45, 128, 211):
            best = max(
                (d for d in result.detections if np.hypot(d.x - x, d.y - y) < 4.0),
                key=lambda d: d.confidence or 0.0,
            )
            assert best.confidence is not None
            assert best.confidence > 0.9, (x, y, best.snr)
            assert "trail" not in best.flags
