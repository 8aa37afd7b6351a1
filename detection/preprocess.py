"""From pixel values to what the network sees.

Training and serving call `normalise` with the same card, so there is one definition of the input.
"""

from dataclasses import dataclass
from typing import TypeAlias

import msgspec
import numpy as np
import sep
from numpy.typing import NDArray

from detection.errors import InputError

Image: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]

MIN_USABLE_PIXELS = 64


class Normalisation(msgspec.Struct, frozen=True, kw_only=True):
    """How pixel values become what the network sees, see `normalise`.

    Attributes
    ----------
    mesh
        Side of a background mesh cell, pixels.
    softening
        Where the asinh stretch turns from linear to logarithmic, in units of the noise sigma.
    clip
        Largest absolute value after the stretch.
    """

    mesh: int = 64
    softening: float = 3.0
    clip: float = 8.0


@dataclass(frozen=True, slots=True)
class Normalised:
    """An exposure made ready for the network.

    Attributes
    ----------
    image
        float32 (H, W): asinh((data - background) / (softening * rms)), clipped; 0 where masked.
    significance
        float32 (H, W): (data - background) / rms, in sigma; 0 where masked.
    mask
        bool (H, W): True where the pixel says nothing.
    background, gradient, noise
        Median background and median rms in counts; range of the background in units of the noise.
    """

    image: Image
    significance: Image
    mask: Mask
    background: float
    gradient: float
    noise: float


def normalise(data: Image, mask: Mask, how: Normalisation) -> Normalised:
    """Subtract the background, divide by the noise and stretch.

    Background and rms are SExtractor's (Bertin & Arnouts 1996), as SEP computes them: clipped mode
    on a mesh, median filtered, spline interpolated. The asinh stretch (Lupton et al. 2004) is
    linear in the noise and logarithmic in bright sources. Multiplying the data by a positive
    constant, or adding one, changes nothing.

    Parameters
    ----------
    data
        float32 (H, W), native byte order; not modified. Masked pixels may hold anything.
    mask
        bool (H, W), True for pixels to leave out.
    how
        Mesh, softening and clip.

    Raises
    ------
    InputError
        If fewer than 64 pixels are usable, or their noise is zero.
    """
    if data.size - int(np.count_nonzero(mask)) < MIN_USABLE_PIXELS:
        raise InputError(
            "no-usable-pixels",
            "exposure",
            "hardly any pixel is a finite number, so there is nothing to score",
        )
    # SEP works on absolute float32 values: remove the pedestal and the scale first, so that an
    # exposure in nanojansky and one in electrons get the same answer.
    usable = data[~mask]
    pedestal = float(np.median(usable))
    scale = float(np.median(np.abs(usable - pedestal))) * 1.4826
    if scale == 0.0:
        scale = float(np.std(usable, dtype=np.float64))
    if not np.isfinite(scale) or scale <= 0.0:
        raise InputError(
            "no-noise",
            "exposure",
            "its pixels have no spread, so a signal-to-noise ratio cannot be formed; send an"
            " exposure with noise in it",
        )
    scaled = np.subtract(data, np.float32(pedestal), dtype=np.float32)
    scaled /= np.float32(scale)
    scaled[mask] = 0.0
    # Beyond this a float32 sum of squares loses the noise.
    np.clip(scaled, -1e6, 1e6, out=scaled)

    mesh = min(how.mesh, *data.shape)
    estimate = sep.Background(scaled, mask=mask, bw=mesh, bh=mesh)
    background: Image = estimate.back(dtype=np.float32)
    rms: Image = estimate.rms(dtype=np.float32)
    np.maximum(rms, np.float32(max(1e-3, 0.1 * float(estimate.globalrms))), out=rms)

    significance = scaled
    significance -= background
    significance /= rms
    significance[mask] = 0.0
    image = np.arcsinh(significance / np.float32(how.softening))
    np.clip(image, -how.clip, how.clip, out=image)
    noise = float(np.median(rms))
    return Normalised(
        image=image,
        significance=significance,
        mask=mask,
        background=pedestal + scale * float(np.median(background)),
        gradient=float(np.ptp(background)) / noise,
        noise=scale * noise,
    )
