"""A threshold that keeps the false discovery rate below what the caller asks for.

Learn then Test (Angelopoulos et al. 2021): for each threshold of a grid the mean false discovery
proportion over calibration exposures is tested against the level asked for, by the
Hoeffding-Bentkus p-value (Bates et al. 2021), from the strictest threshold on and until the first
test that fails.
"""

import math

import msgspec

from astrotriton.detection.errors import InputError
from astrotriton.wire.confidence import Guarantee

_ERROR_RATE = 0.1


class RiskCurve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The false discovery proportion on calibration exposures, as the threshold falls.

    Attributes
    ----------
    thresholds
        Of the confidence, descending.
    risk
        Mean over the exposures of false ones / called ones, 0 where none is called.
    exposures
        How many.
    """

    thresholds: tuple[float, ...]
    risk: tuple[float, ...]
    exposures: int

    def guarantee(self, level: float) -> Guarantee:
        """The lowest threshold that keeps the false discovery rate at ``level``.

        Raises
        ------
        InputError
            ``guarantee-impossible`` if no threshold of the grid does.
        """
        chosen = None
        for threshold, risk in zip(self.thresholds, self.risk, strict=True):
            if _p_value(risk, level, self.exposures) > _ERROR_RATE:
                break
            chosen = threshold
        if chosen is None:
            raise InputError(
                "guarantee-impossible",
                "max_false_discovery_rate",
                f"{self.exposures} calibration exposures cannot vouch for {level}; ask for more",
            )
        return Guarantee(
            max_false_discovery_rate=level,
            threshold=chosen,
            confidence_level=1.0 - _ERROR_RATE,
            exposures=self.exposures,
        )


def _p_value(risk: float, level: float, count: int) -> float:
    """Hoeffding-Bentkus p-value of "the true risk exceeds ``level``" for a loss in [0, 1]."""
    from scipy.special import bdtr  # clients import this module for its types, without SciPy

    if risk >= level:
        return 1.0
    divergence = (1.0 - risk) * math.log((1.0 - risk) / (1.0 - level))
    if risk > 0.0:
        divergence += risk * math.log(risk / level)
    hoeffding = math.exp(-count * divergence)
    bentkus = math.e * float(bdtr(math.ceil(count * risk), count, level))
    return min(hoeffding, bentkus, 1.0)
