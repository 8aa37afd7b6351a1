"""How the confidence of one detection came about."""

import numpy as np
from scipy.special import expit

from astrotriton.detection.confidence.calibration import apply_calibration
from astrotriton.gateway.dashboard import written
from astrotriton.gateway.dashboard.charts.drawing import (
    ROW,
    SHARE,
    TOP,
    WIDE_LEFT,
    WIDTH,
    Axis,
    Bar,
    Chart,
    Line,
    Mark,
    Table,
    Tick,
    above,
    across,
    path,
)
from astrotriton.wire.confidence import Derivation


def contributions(derivation: Derivation) -> Chart:
    """What speaks for a source, and what against it."""
    terms = sorted(derivation.terms, key=lambda term: -abs(term.contribution))
    values = [*(term.contribution for term in terms), derivation.intercept, derivation.score]
    names = [*(written.term(term.name) for term in terms), "intercept", "score"]
    reach = above([abs(value) for value in values])
    axis = Axis(-reach, reach, WIDE_LEFT, WIDTH - 70.0)
    bars, ticks = [], []
    for i, (name, value) in enumerate(zip(names, values, strict=True)):
        top = TOP + i * ROW
        ticks.append(Tick(top + (ROW - 6.0) / 2, name))
        left, right = sorted((axis(0.0), axis(value)))
        bars.append(
            Bar(
                *(left, top, max(right - left, 0.5), ROW - 6.0),
                3 if name == "score" else 1 if value >= 0.0 else 2,
                f"{name}: {value:+.2f}",
                f"{value:+.2f}",
            )
        )
    bottom = TOP + len(names) * ROW
    zero = axis(0.0)
    return Chart(
        name="contributions",
        title="What the score is made of",
        summary=f"{names[0]} counts most, {values[0]:+.2f}; the score is {derivation.score:+.2f}.",
        x_label="logit: to the right speaks for a real source",
        x_ticks=axis.ticks(),
        y_ticks=ticks,
        plot=(WIDE_LEFT, TOP - 6.0, WIDTH - 70.0, bottom),
        height=int(bottom + 46),
        rows=True,
        lines=[Line(f"M{zero:g} {TOP - 6.0:g}V{bottom:g}", 0)],
        bars=bars,
        legend=[(1, "for"), (2, "against"), (3, "sum")],
        table=Table(
            ["term", "adds"],
            [[name, f"{value:+.3f}"] for name, value in zip(names, values, strict=True)],
        ),
    )


def calibration(derivation: Derivation) -> Chart:
    """From the score to the confidence, and where this source lies."""
    curve = derivation.calibration
    low, high = min(-6.0, derivation.score - 1.0), max(6.0, derivation.score + 1.0)
    x = across(low, high)
    scores = np.linspace(low, high, 100)
    shift = 0.0 if derivation.prevalence is None else derivation.prevalence.shift
    mapped = expit(apply_calibration(scores, curve) + shift)
    here = (x(derivation.score), SHARE(derivation.confidence))
    return Chart(
        name="calibration",
        title="From score to confidence",
        summary=(
            f"The score {derivation.score:.2f} is calibrated to {derivation.confidence:.3f}, "
            f"in 90 % of exposures between {derivation.low:.3f} and {derivation.high:.3f}."
        ),
        x_label="score, logit",
        y_label="confidence",
        x_ticks=x.ticks(8),
        y_ticks=SHARE.ticks(),
        lines=[
            Line(path(list(zip(scores.tolist(), mapped.tolist(), strict=True)), x, SHARE), 1),
            Line(
                path(list(zip(scores.tolist(), expit(scores).tolist(), strict=True)), x, SHARE), 0
            ),
            Line(f"M{here[0]:g} {SHARE(derivation.low):g}V{SHARE(derivation.high):g}", 2),
        ],
        marks=[Mark(*here, 5.0, "dot", 2, f"this source: {derivation.confidence:.3f}")],
        legend=[(1, f"calibration ({curve.method})"), (0, "uncalibrated"), (2, "this source")],
        table=Table(
            ["score", "confidence"],
            [
                [f"{score:.2f}", f"{value:.3f}"]
                for score, value in zip(scores[::10].tolist(), mapped[::10].tolist(), strict=True)
            ],
        ),
    )
