"""A threshold that keeps the false discovery rate below what the caller asks for.

Learn then Test (Angelopoulos et al. 2021): for each threshold of a grid the mean false discovery
proportion over calibration exposures is tested against the level asked for, by the
Hoeffding-Bentkus p-value (Bates et al. 2021), from the strictest threshold on and until the first
test that fails.

Where another share of the sources is real than in calibration, the mean over exposures says little:
an exposure in which nothing is called counts as one without a false discovery, and with few real
sources most are. What is tested is then the share of false ones among all that are called, on
`Discoveries`, by the binomial tail.
"""

import math

import msgspec

from astrotriton.detection.errors import InputError
from astrotriton.wire.confidence import Guarantee

_ERROR_RATE = 0.1
_SHIFTED = (
    "sources of either kind look like those of the calibration exposures, and {share:.2g} of them"
    " are real; it holds for all that are called real in many exposures together"
)


#: Thresholds of the calibrated logit at which discoveries are counted, descending.
DISCOVERY_LOGITS = tuple(12.0 - 0.25 * i for i in range(73))


class Discoveries(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was called on calibration exposures, as the threshold falls.

    Attributes
    ----------
    logits
        Thresholds of the calibrated logit, descending.
    real, false
        How many real and false sources reach each, both divided by the design effect of the false
        ones (Kish 1965): those of an exposure are alike, so that they count as fewer.
    real_sources, false_sources
        How many there were in all.
    """

    logits: tuple[float, ...]
    real: tuple[float, ...]
    false: tuple[float, ...]
    real_sources: int
    false_sources: int

    def threshold(self, level: float, prevalence: float) -> float | None:
        """The lowest calibrated logit from which at most ``level`` of what is called is false.

        Parameters
        ----------
        level
            Largest share of false ones.
        prevalence
            Share of all sources that are real.

        Returns
        -------
        None if no threshold can be vouched for.
        """
        from scipy.special import betainc  # clients import this module without SciPy

        odds = level / (1.0 - level) * prevalence / (1.0 - prevalence)
        odds *= self.false_sources / self.real_sources
        most_false = odds / (1.0 + odds)  # of what is called on the calibration exposures
        # Fewer than these would not do even if all were real; where to begin may depend on how many
        # are called, and not on which of them are real.
        enough = math.log(_ERROR_RATE) / math.log1p(-most_false)
        chosen = None
        for at, real, false in zip(self.logits, self.real, self.false, strict=True):
            called = real + false
            if called < enough:
                continue
            # The chance of no more than so many false ones, if `most_false` were.
            if real <= 0.0 or betainc(real, false + 1.0, 1.0 - most_false) > _ERROR_RATE:
                break
            chosen = at
        return chosen


def shifted_guarantee(
    discoveries: Discoveries, exposures: int, level: float, share: float, shift: float
) -> Guarantee:
    """The lowest threshold that keeps the false discovery rate at ``level`` for a share.

    Parameters
    ----------
    discoveries, exposures
        Of the calibration.
    level
        Largest share of false ones among those called real.
    share
        Share of all sources that are real.
    shift
        What confidences were shifted by, in log odds.

    Raises
    ------
    InputError
        ``guarantee-impossible`` if no threshold does.
    """
    at = discoveries.threshold(level, share)
    if at is None:
        raise InputError(
            "guarantee-impossible",
            "max_false_discovery_rate",
            f"{discoveries.real_sources} real and {discoveries.false_sources} false calibration"
            f" sources cannot vouch for {level} where a share of {share:.2g} is real; ask for more,"
            " or have more of them labelled",
        )
    return Guarantee(
        max_false_discovery_rate=level,
        threshold=1.0 / (1.0 + math.exp(-(at + shift))),
        confidence_level=1.0 - _ERROR_RATE,
        exposures=exposures,
        assumption=_SHIFTED.format(share=share),
    )


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
