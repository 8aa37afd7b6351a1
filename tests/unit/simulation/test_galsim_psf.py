import galsim
import numpy as np
import pytest

from astrotriton.simulation.galsim_psf import Kolmogorov
from astrotriton.simulation.psf import GalaxyShape

# GalSim answers NaN through this one.
PSF = Kolmogorov(3.2555881476961708, -0.022298257652844246, -0.022737450447952907)
GALAXY = GalaxyShape(2.4983146917843175, 0.3611588703811974, 2.3776301980609267)


def test_a_psf_that_galsim_cannot_draw_is_drawn_a_little_wider() -> None:
    plain = galsim.Convolve(PSF.profile(), galsim.Pixel(1.0)).drawImage(
        nx=681, ny=681, scale=0.25, method="no_pixel"
    )
    if np.isfinite(plain.array).all():
        pytest.skip("this GalSim draws it: the way round it can go")
    image = np.zeros((128, 128))
    PSF.add(image, 64.0, 64.0, 1000.0, 40)
    PSF.add_galaxy(image, 30.0, 90.0, 1000.0, GALAXY)
    assert np.isfinite(image).all()
    near = Kolmogorov(PSF.fwhm * 1.00005, PSF.g1, PSF.g2)
    expected = np.zeros((128, 128))
    near.add(expected, 64.0, 64.0, 1000.0, 40)
    near.add_galaxy(expected, 30.0, 90.0, 1000.0, GALAXY)
    np.testing.assert_allclose(image, expected, atol=0.05)
