"""An exposure with its detections, drawn by Matplotlib, which is imported when it is asked for."""

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from astrotriton.client.contents import File, file_of
from astrotriton.client.errors import UnreadableError
from astrotriton.wire.detections import ScoredDetection
from astrotriton.wire.runs import InferResponse

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

_REAL, _BOGUS = "#2ca02c", "#d62728"


def plot(run: InferResponse, exposure: "File | None", axes: "Axes | None") -> "Axes":
    """Draw a run: its exposure in zscale, real detections circled, others crossed.

    See `Run.plot`.
    """
    import matplotlib.pyplot as plt

    height, width = run.exposure.height, run.exposure.width
    if axes is None:
        side = 8.0 / max(height, width)
        size = (max(4.0, width * side), max(4.0, height * side) + 0.6)
        _, axes = plt.subplots(figsize=size, layout="constrained")
    remote = isinstance(exposure, str) and exposure.startswith("s3://")
    if exposure is not None and not remote:
        show(axes, pixels(exposure, run.exposure.hdu, (height, width)))
    else:
        axes.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5), aspect="equal")
    mark(axes, run.detections)
    title = run.exposure.name or str(run.run_id)
    axes.set(xlabel="x (pixels, 0-based)", ylabel="y", title=title)
    axes.legend(loc="upper right", fontsize=8)
    return axes


def show(axes: "Axes", data: "NDArray[Any]") -> None:
    """Draw an image in zscale, its first row at the bottom; NaN stays empty."""
    import numpy as np
    from astropy.visualization import ZScaleInterval

    finite = data[np.isfinite(data)]
    low, high = ZScaleInterval().get_limits(finite) if finite.size else (0.0, 1.0)
    axes.imshow(data, origin="lower", cmap="gray", vmin=low, vmax=high, interpolation="nearest")


def mark(axes: "Axes", detections: Sequence[ScoredDetection]) -> None:
    """Circle what is called real, with its confidence; cross what else was kept."""
    kept = [
        (d.x, d.y, d)
        for d in detections
        if d.outcome == "kept" and d.x is not None and d.y is not None
    ]
    real, doubtful = ([one for one in kept if one[2].is_real is wanted] for wanted in (True, False))
    axes.scatter(
        [x for x, _, _ in real],
        [y for _, y, _ in real],
        s=140,
        marker="o",
        facecolors="none",
        edgecolors=_REAL,
        linewidths=1.4,
        label=f"real ({len(real)})",
    )
    axes.scatter(
        [x for x, _, _ in doubtful],
        [y for _, y, _ in doubtful],
        s=25,
        marker="x",
        c=_BOGUS,
        linewidths=1.4,
        label=f"not real ({len(doubtful)})",
    )
    for x, y, one in real:
        axes.annotate(
            f"{one.confidence:.2f}",
            (x, y),
            xytext=(7, 7),
            textcoords="offset points",
            color=_REAL,
            fontsize=8,
        )


def pixels(exposure: File, hdu: str, shape: tuple[int, int]) -> "NDArray[np.floating[Any]]":
    """The image that was scored, as floats (rows, columns).

    Parameters
    ----------
    exposure
        What was sent.
    hdu
        The HDU that was scored, as the answer names it, or ``npy``.
    shape
        Rows and columns of it.

    Raises
    ------
    UnreadableError
        If there is no such image in it.
    """
    import numpy as np
    from astropy.io import fits

    name, content = file_of("exposure", exposure)
    try:
        if hdu == "npy":
            data = np.load(io.BytesIO(content), allow_pickle=False)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # The gateway has read it already.
                with fits.open(io.BytesIO(content)) as hdus:
                    data = np.array(_chosen(hdus, hdu, shape).data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableError(f"{name}: its pixels cannot be read: {error}") from error
    if data.shape != shape:
        raise UnreadableError(f"{name} has {data.shape} pixels, and the run is of {shape}")
    image: NDArray[np.floating[Any]] = data.astype(float)
    return image


def _chosen(hdus: Any, hdu: str, shape: tuple[int, int]) -> Any:
    """The HDU of a name as the gateway writes it: EXTNAME, ``EXTNAME,2`` or PRIMARY."""
    for one in hdus:
        named = one.name or "PRIMARY"
        if hdu in (named, f"{named},{one.ver}") and getattr(one, "shape", None) == shape:
            return one
    raise KeyError(f"no HDU {hdu} of {shape} pixels")
