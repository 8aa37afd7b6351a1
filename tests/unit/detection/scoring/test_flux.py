"""Pulls of fluxes of simulated sources, whatever is known of PSF and noise."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from astrotriton.detection.card import UNetModel
from astrotriton.detection.image.planes import Planes
from astrotriton.detection.scoring.score import Scored, finish, prepare
from astrotriton.simulation.psf import Moffat
from astrotriton.wire.detections import Candidate
from astrotriton.wire.flags import Flag
from tests.unit.detection.conftest import answer, to_fits

Profile = Callable[[np.ndarray, np.ndarray], np.ndarray]
Answer = tuple[np.ndarray, Scored]
SIZE = 512


def gaussian(dx: np.ndarray, dy: np.ndarray, fwhm: float) -> np.ndarray:
    rate = 4.0 * np.log(2.0) / fwhm**2
    return rate / np.pi * np.exp(-rate * (dx**2 + dy**2))


def noise_map(step: float) -> np.ndarray:
    noise = np.full((SIZE, SIZE), 10.0)
    noise[:, 250:] *= step
    return noise


def pulls(
    card: UNetModel,
    profile: Profile,
    spacing: int,
    seed: int,
    *,
    step: float = 1.0,
    header: dict[str, Any] | None = None,
    most: int | None = None,
    **options: Any,
) -> Answer:
    """(flux - truth) / error of sources of SNR 5 to 30 on a grid, and the answer."""
    rng = np.random.default_rng(seed)
    sigma = noise_map(step)
    image = rng.normal(size=sigma.shape) * sigma
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    places = np.arange(spacing // 2 + 4, SIZE - spacing // 2, spacing)
    truth, asked = [], []
    for row in places:
        for column in places:
            if most is not None and len(truth) == most:
                break
            x0, y0 = np.array([column, row]) + rng.uniform(-0.5, 0.5, 2)
            window = np.s_[max(row - 60, 0) : row + 61, max(column - 60, 0) : column + 61]
            psf = profile(x[window] - x0, y[window] - y0)
            snr = np.exp(rng.uniform(np.log(5.0), np.log(30.0)))
            truth.append(snr * sigma[row, column] / np.sqrt(np.sum(psf**2)))
            image[window] += truth[-1] * psf
            near = np.array([x0, y0]) + rng.uniform(-0.7, 0.7, 2)
            asked.append(Candidate(id=str(len(asked)), x=float(near[0]), y=float(near[1])))
    content = to_fits(image.astype(np.float32), **(header or {}))
    scored = finish(answer(prepare(content, card, asked, **options)))
    found = {
        int(one.candidate_id): (one.flux or 0.0, one.flux_err or np.nan)
        for one in scored.detections
        if one.candidate_id and one.outcome == "kept"
    }
    assert len(found) == len(truth)
    return np.array([(found[i][0] - f) / found[i][1] for i, f in enumerate(truth)]), scored


def several(one: Callable[..., Answer], count: int, **options: Any) -> np.ndarray:
    return np.concatenate([one(seed=seed, **options)[0] for seed in range(count)])


def width(values: np.ndarray) -> float:
    low, high = np.percentile(values, [15.87, 84.13])
    return float(high - low) / 2.0


@pytest.mark.parametrize(
    ("said", "fwhm"),
    [
        *(("measured", fwhm) for fwhm in (1.5, 2.5, 4.0, 6.0, 8.0)),
        *(("header", fwhm) for fwhm in (1.5, 4.0, 8.0)),
        ("request", 2.5),
        *(("psf", fwhm) for fwhm in (2.5, 8.0)),
    ],
)
def test_pulls_are_unit_normals(card: UNetModel, said: str, fwhm: float) -> None:
    profile = Moffat(fwhm, 3.0)
    options: dict[str, Any] = {}
    if said == "header":
        options["header"] = {"FWHM": fwhm}
    if said == "request":
        options["seeing"] = (fwhm, "px")
    if said == "psf":
        y, x = np.mgrid[-40:41, -40:41].astype(float)
        options["planes"] = Planes(psf=to_fits((7.0 * profile(x, y)).astype(np.float32)))
    one = partial(pulls, card, profile, 64 if fwhm < 5 else int(12 * fwhm))
    found, scored = one(seed=0, **options)
    assert scored.image.seeing_source == said
    assert scored.image.seeing_fwhm == pytest.approx(fwhm, rel=0.08)
    assert Flag.SEEING_ASSUMED not in scored.flags
    found = several(one, 4 if fwhm < 5 else 7, **options)
    # The error of the profile is the same for all sources of an exposure, which scatter by less
    # therefore; and 200 sources know a width to 6 %.
    assert 0.75 <= width(found) <= 1.2
    assert abs(np.median(found)) < 0.4


@pytest.mark.parametrize("weight_type", [None, "inverse_variance", "variance"])
def test_noise_that_steps(card: UNetModel, weight_type: Any) -> None:
    options: dict[str, Any] = {}
    if weight_type is not None:
        power = 2 if weight_type == "variance" else -2
        plane = to_fits((5.0 * noise_map(3.0) ** power).astype(np.float32))
        options["planes"] = Planes(weight=plane, weight_type=weight_type)
    found = several(partial(pulls, card, Moffat(4.0, 3.0), 64, step=3.0), 5, **options)
    assert width(found) == pytest.approx(1.0, abs=0.1)
    assert abs(np.median(found)) < 0.4


def test_sources_say_that_they_are_gaussian(card: UNetModel) -> None:
    found = several(partial(pulls, card, partial(gaussian, fwhm=4.0), 64), 4)
    assert width(found) == pytest.approx(1.0, abs=0.12)
    assert abs(np.median(found)) < 0.4


@pytest.mark.parametrize(
    "fwhm",
    [
        pytest.param(1.5, marks=pytest.mark.science),
        4.0,
        pytest.param(8.0, marks=pytest.mark.science),
    ],
)
def test_with_nothing_known_the_error_holds(card: UNetModel, fwhm: float) -> None:
    one = partial(pulls, card, Moffat(fwhm, 3.0), 200, most=2)
    found, scored = one(seed=0)
    assert scored.image.seeing_source == "assumed"
    assert scored.image.seeing_fwhm is None
    assert Flag.SEEING_ASSUMED in scored.flags
    assert all(Flag.SEEING_ASSUMED in one.flags for one in scored.detections)
    found = several(one, 20)
    assert np.mean(np.abs(found) < 1.0) >= 0.6
    assert np.mean(np.abs(found) < 2.0) >= 0.9


@pytest.mark.parametrize("fwhm", [1.2, 2.0, 3.0, 5.0, 8.0, 10.0])
def test_the_width_of_point_sources_is_measured(card: UNetModel, fwhm: float) -> None:
    profile = Moffat(fwhm, 3.0)
    scored = pulls(card, profile, max(64, int(12 * fwhm)), seed=3)[1]
    assert scored.image.seeing_source == "measured"
    assert scored.image.seeing_fwhm == pytest.approx(fwhm, rel=0.08)
