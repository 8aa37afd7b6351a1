"""Fluxes as magnitudes."""

from collections.abc import Iterable, Sequence
from math import log, log10

_POGSON = 2.5 / log(10.0)  # magnitudes of a relative change of 1 in the flux


def magnitude(flux: float, zero_point: float | None) -> float | None:
    """The magnitude of the size of a flux, negative or not; None for 0, or without a zero point.

    mag = zero_point - 2.5 log10(abs(flux)) (Pogson 1856).
    """
    if zero_point is None or flux == 0.0:
        return None
    return zero_point - 2.5 * log10(abs(flux))


def magnitudes(
    flux: Iterable[float | None], flux_err: Iterable[float | None], zero_point: float | None
) -> dict[str, Sequence[float | None]]:
    """``mag`` and ``mag_err`` of N fluxes, which may be unknown, with their 1-sigma errors.

    The error is that of the flux to first order, 2.5 / ln(10) flux_err / abs(flux).
    """
    mag: list[float | None] = []
    mag_err: list[float | None] = []
    for value, error in zip(flux, flux_err, strict=True):
        known = None if value is None else magnitude(value, zero_point)
        mag.append(known)
        mag_err.append(
            None if known is None or error is None or not value else _POGSON * error / abs(value)
        )
    return {"mag": mag, "mag_err": mag_err}
