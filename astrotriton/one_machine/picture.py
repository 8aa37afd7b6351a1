"""A picture of an exposure with its detections marked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from astrotriton.client.pictures import mark, show
from astrotriton.detection.image.exposure import Exposure
from astrotriton.wire.detections import ScoredDetection

_TRUTH = "#1f77b4"


def draw(
    exposure: Exposure,
    detections: Sequence[dict[str, Any]],
    path: Path,
    *,
    title: str,
    truth: Sequence[tuple[float, float]] = (),
) -> None:
    """Write a PNG: real detections circled, others crossed, true transients boxed.

    Parameters
    ----------
    exposure
        Shown in zscale.
    detections
        As the gateway answers them.
    path
        Of the PNG.
    title
        Above the picture.
    truth
        Positions of the true transients, if they are known, 0-based pixels.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = exposure.shape
    side = 10.0 / max(height, width)
    figure = Figure(figsize=(max(4.0, width * side), max(4.0, height * side) + 0.6), dpi=120)
    axes = figure.add_subplot()
    show(axes, exposure.nan_image())
    mark(axes, [msgspec.convert(one, ScoredDetection) for one in detections])
    if truth:
        x, y = zip(*truth, strict=True)
        axes.scatter(
            x,
            y,
            s=260,
            marker="s",
            facecolors="none",
            edgecolors=_TRUTH,
            label=f"true ({len(truth)})",
        )
    axes.set(xlabel="x (pixels, 0-based)", ylabel="y", title=title)
    axes.legend(loc="upper right", fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path)
