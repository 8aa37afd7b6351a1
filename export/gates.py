"""What a version is asked before it is let through: accuracy as everywhere, and what it costs."""

import math

from astrotriton.detection.assurance.criteria import (
    GateLimits,
    accuracy,
    accuracy_change,
    calibration,
)
from astrotriton.wire.validation import Gate

__all__ = ["GateLimits", "accuracy", "accuracy_change", "calibration", "cost"]


def cost(
    name: str,
    unit: str,
    own: float,
    champions: float | None,
    *,
    most: float = math.inf,
    most_ratio: float,
) -> Gate:
    """Whether a cost (``latency``, ``memory``) is not too much, nor too much more than before.

    Parameters
    ----------
    own, champions
        In ``unit``; the champion's is None if there is none.
    most, most_ratio
        Largest cost, and in units of the champion's.
    """
    said, figures = f"{own:.4g} {unit}", {f"{name}_{unit}": own}
    problems = [] if own <= most else [f"{said}; at most {most:g} {unit} is allowed"]
    if champions is None:
        return Gate.of(name, problems, f"{said}; there is no champion to compare with", **figures)
    found = own / champions
    figures |= {f"champion_{name}_{unit}": champions, f"{name}_ratio": found}
    said += f", {found:.2f} times the champion's {champions:.4g} {unit}"
    if not found <= most_ratio:
        problems.append(f"{said}; at most {most_ratio:g} times is allowed")
    return Gate.of(name, problems, said, **figures)
