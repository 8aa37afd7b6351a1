"""What the values of a weight plane are, as its file says."""

from collections.abc import Sequence

from astropy.io import fits

from astrotriton.wire.exposures import WeightType

# What HDUs are called that hold one, and what Astropy writes of its uncertainties (NDData, UTYPE).
_NAMED: dict[str, WeightType] = {
    **dict.fromkeys(("VAR", "VARIANCE", "VARIANCEUNCERTAINTY"), "variance"),
    **dict.fromkeys(
        ("ERR", "ERROR", "RMS", "SIGMA", "STDDEV", "UNCERT", "NOISE", "STDDEVUNCERTAINTY"),
        "standard_deviation",
    ),
    **dict.fromkeys(
        ("WEIGHT", "WGT", "WHT", "WTMAP", "IVAR", "INVVAR", "INVERSEVARIANCE", "OOW"),
        "inverse_variance",
    ),
}
_NAMING = ("PRODTYPE", "IMTYPE")


def weight_type_of(name: str, headers: Sequence[fits.Header]) -> WeightType:
    """What a plane holds, by its HDU's name or its header; inverse variances by default."""
    header = headers[0] if headers else {}
    for given in (header.get("UTYPE"), name, *map(header.get, _NAMING)):
        base = str(given or "").partition(",")[0].strip().upper()
        if base in _NAMED:
            return _NAMED[base]
    return "inverse_variance"
