"""A picture of an exposure with its detections marked."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.visualization import ZScaleInterval

from astrotriton.detection.image.exposure import Exposure

_REAL, _BOGUS, _TRUTH = "#2ca02c", "#d62728", "#1f77b4"


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

    data, mask = exposure.image()
    height, width = exposure.shape
    side = 10.0 / max(height, width)
    figure = Figure(figsize=(max(4.0, width * side), max(4.0, height * side) + 0.6), dpi=120)
    axes = figure.add_subplot()
    low, high = ZScaleInterval().get_limits(data[~mask])
    image = np.where(mask, np.nan, data)
    axes.imshow(image, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    kept = [d for d in detections if d["outcome"] == "kept"]
    for real, marker, colour, label in (
        (True, "o", _REAL, "real"),
        (False, "x", _BOGUS, "not real"),
    ):
        chosen = [d for d in kept if d["is_real"] is real]
        axes.scatter(
            [d["x"] for d in chosen],
            [d["y"] for d in chosen],
            s=140 if real else 25,
            marker=marker,
            facecolors="none" if real else colour,
            edgecolors=colour if real else None,
            linewidths=1.4,
            label=f"{label} ({len(chosen)})",
        )
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
    for detection in kept:
        if detection["is_real"]:
            axes.annotate(
                f"{detection['confidence']:.2f}",
                (detection["x"], detection["y"]),
                xytext=(7, 7),
                textcoords="offset points",
                color=_REAL,
                fontsize=8,
            )
    axes.set(xlabel="x (pixels, 0-based)", ylabel="y", title=title)
    axes.legend(loc="upper right", fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure)
    figure.savefig(path)
