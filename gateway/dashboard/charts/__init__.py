"""Diagrams: where everything goes, in SVG units; a template draws it.

Each diagram has a table of the same figures, and says so when there is nothing to draw. A module
each for what it is about; `drawing` has the parts and the axes.
"""

from astrotriton.gateway.dashboard.charts.derivation import calibration, contributions
from astrotriton.gateway.dashboard.charts.drawing import Chart
from astrotriton.gateway.dashboard.charts.drift import drift
from astrotriton.gateway.dashboard.charts.history import light_curve
from astrotriton.gateway.dashboard.charts.traffic import confidences, latency, throughput
from astrotriton.gateway.dashboard.charts.validations import (
    accuracy,
    completeness,
    purity,
    reliability,
    trend,
)

__all__ = [
    "Chart",
    "accuracy",
    "calibration",
    "completeness",
    "confidences",
    "contributions",
    "drift",
    "latency",
    "light_curve",
    "purity",
    "reliability",
    "throughput",
    "trend",
]
