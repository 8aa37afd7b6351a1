"""Whether a science or template image shows the same pixels of the sky as the difference image."""

import numpy as np
from astropy.coordinates import angular_separation

from astrotriton.detection.errors import InputError
from astrotriton.detection.image.exposure import Exposure
from astrotriton.wire.exposures import Companion

#: Pixels by which the WCS of a companion may differ from the difference image's.
MOST_OFFSET = 0.5
# Places along each axis at which the two are compared.
_PLACES = 5


def check_shape(field: str, plane: Exposure, exposure: Exposure) -> None:
    """See that a plane has the exposure's rows and columns.

    Raises
    ------
    InputError
        ``plane-shape``; the field is the plane.
    """
    if plane.shape != exposure.shape:
        raise InputError(
            "plane-shape",
            field,
            f"has {plane.shape[0]} rows and {plane.shape[1]} columns, the exposure"
            f" {exposure.shape[0]} and {exposure.shape[1]}: send one of the same shape",
        )


def check_aligned(field: Companion, plane: Exposure, exposure: Exposure) -> None:
    """See that a companion is on the exposure's pixels, as far as both have a WCS.

    Raises
    ------
    InputError
        ``plane-shape``, or ``plane-wcs`` if a pixel lies more than `MOST_OFFSET` from the same
        one of the exposure; the field is the plane.
    """
    check_shape(field, plane, exposure)
    scale = exposure.pixel_scale
    if scale is None or plane.sky_of is None:
        return
    rows, columns = (np.linspace(0.0, length - 1.0, _PLACES) for length in exposure.shape)
    x, y = (grid.ravel() for grid in np.meshgrid(columns, rows))
    here, there = np.deg2rad(exposure.sky(x, y)), np.deg2rad(plane.sky(x, y))
    apart = np.rad2deg(angular_separation(*here, *there)) * 3600.0 / scale
    known = np.isfinite(apart)
    if not known.any():
        return
    worst = int(np.argmax(np.where(known, apart, -1.0)))
    if apart[worst] > MOST_OFFSET:
        raise InputError(
            "plane-wcs",
            field,
            f"its WCS puts the pixel ({x[worst]:.0f}, {y[worst]:.0f}) {apart[worst]:.3g} px from"
            f" where the exposure's does, at most {MOST_OFFSET:g} px is allowed: resample it to the"
            " exposure's pixels, or correct the WCS of either",
        )
