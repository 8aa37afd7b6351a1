"""An image on a coarser or finer grid of pixels over the same area."""

import numpy as np
from PIL import Image as Pillow

from astrotriton.detection.arrays import Image


def resize(image: Image, shape: tuple[int, int]) -> Image:
    """Resample an image, float32 (H, W), to so many rows and columns.

    Pixel i covers i - 0.5 to i + 0.5, so that position x becomes ``(x + 0.5) * scale - 0.5``. A
    coarser pixel is the mean over its area; between finer ones the image is interpolated linearly.
    """
    if image.shape == shape:
        return image
    finer = shape[0] > image.shape[0]
    how = Pillow.Resampling.BILINEAR if finer else Pillow.Resampling.BOX
    rows, columns = shape
    return np.asarray(Pillow.fromarray(np.ascontiguousarray(image)).resize((columns, rows), how))
