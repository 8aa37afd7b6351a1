import math

import pytest

from astrotriton.detection.sources.photometry import magnitude, magnitudes


def test_a_magnitude_is_that_of_the_size_of_the_flux():
    assert magnitude(1.0, 25.0) == 25.0
    assert magnitude(100.0, 25.0) == magnitude(-100.0, 25.0) == pytest.approx(20.0)
    assert magnitude(0.0, 25.0) is None
    assert magnitude(5.0, None) is None


def test_errors_are_those_of_the_flux():
    found = magnitudes([1000.0, -10.0, None, 0.0, 5.0], [10.0, 1.0, 1.0, 1.0, None], 30.0)
    assert found["mag"][:2] == [pytest.approx(22.5), pytest.approx(27.5)]
    # A small change of flux by its error changes the magnitude by its error.
    moved = 22.5 - (30.0 - 2.5 * math.log10(1010.0))
    assert found["mag_err"][0] == pytest.approx(moved, rel=0.01)
    assert found["mag_err"][1] == pytest.approx(0.10857, rel=1e-4)
    assert found["mag"][2:] == [None, None, pytest.approx(30 - 2.5 * math.log10(5))]
    assert found["mag_err"][2:] == [None, None, None]
    assert magnitudes([1.0], [1.0], None) == {"mag": [None], "mag_err": [None]}
