"""Three parts of a survey's exposures, and what a network is on one of them."""

from dataclasses import replace

import numpy as np
import pytest

from astrotriton.adaptation.adapt import figures_of, parts_of
from astrotriton.adaptation.finetuning import examples_of
from astrotriton.adaptation.injection import Injection, inject
from astrotriton.adaptation.survey import UnfitError

INJECTION = Injection(bright=0.0, snr=(20.0, 30.0), on_source=0.0)


def survey(exposure, count, shape=(300, 400)):
    """Exposures of which each has another value in its corner, where nothing is put."""
    made = []
    for i in range(count):
        image = np.resize(exposure.image, shape).copy()
        image[0, 0] = 1e6 + i
        noise = np.ones(shape, np.float32)
        made.append(replace(exposure, name=f"e{i:02d}", image=image, noise=noise, companions={}))
    return made


def numbers(fields):
    return {int(one.image[0, 0] - 1e6) for one in fields}


def test_no_exposure_is_in_two_parts(exposure):
    parts = parts_of(survey(exposure, 9), INJECTION, 1)
    divided = [numbers(one) for one in (parts.learned, parts.calibrated, parts.compared)]
    assert sum(map(len, divided)) == 9
    assert set.union(*divided) == set(range(9))
    assert len(divided[0]) == 5
    # Each is shown several times, with other transients.
    assert len(parts.learned) == 4 * 5
    assert len(parts.calibrated) == 3 * 2
    first, second = parts.learned[0], parts.learned[1]
    assert len(first.transients) > 0
    assert not np.array_equal(first.image, second.image)


def test_the_order_of_the_files_says_nothing(exposure):
    given = survey(exposure, 8)
    one, other = parts_of(given, INJECTION, 1), parts_of(given[::-1], INJECTION, 1)
    np.testing.assert_array_equal(one.compared[0].image, other.compared[0].image)


def test_of_few_large_exposures_the_pieces_are_divided(exposure):
    parts = parts_of(survey(exposure, 2, (1100, 1100)), INJECTION, 1)
    assert len(parts.learned) == 4 * 4
    assert len(parts.calibrated) == 3 * 2
    assert len(parts.compared) == 2 * 2


def test_too_few_are_refused(exposure):
    with pytest.raises(UnfitError, match=r"too few exposures .*\(3\).* compared.*; give 8"):
        parts_of(survey(exposure, 3), INJECTION, 1)


def test_figures_say_what_is_found_and_what_is_real(exposure, card, predict):
    rng = np.random.default_rng(2)
    fields = [inject(rng, one, INJECTION, np.empty((0, 2))) for one in survey(exposure, 3)]
    found = figures_of(fields, card, predict)
    assert found.transients == sum(len(one.transients) for one in fields)
    assert 0.0 <= found.purity <= 1.0
    assert found.average_precision > 0.8
    nothing = figures_of(fields, card, lambda tiles: np.zeros((len(tiles), 2, 512, 512), "f4"))
    assert nothing.average_precision < found.average_precision


def test_what_nobody_knows_does_not_count_and_small_images_are_padded(exposure, card):
    image = exposure.image[:100, :90].copy()
    image[:10] = np.nan
    given = replace(exposure, image=image, noise=np.ones_like(image), companions={})
    field = inject(np.random.default_rng(1), given, INJECTION, np.empty((0, 2)))
    made = examples_of([field], card)
    assert made.images.shape == (1, 128, 128, 1)
    assert made.counted[0, 10:100, :90].all()
    assert made.counted.sum() == 90 * 90
    assert np.isfinite(made.images).all()
    assert made.targets.sum() > 0
