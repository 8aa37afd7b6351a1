"""The images of a cube, each as an exposure of its own."""

from dataclasses import replace

from astrotriton.detection.image.exposure import Exposure
from astrotriton.wire.flags import Flag


def cube_images(cube: Exposure) -> list[Exposure]:
    """The images that were read as a cube, in their order; they share its memory."""
    rows = cube.shape[0] // cube.images
    return [
        Exposure(
            replace(cube.stored, array=cube.stored.array[first : first + rows]),
            sky_of=None,
            name=cube.name,
            flags=frozenset({Flag.NO_WCS}),
            saturation=cube.saturation,
            seeing=cube.seeing,
            observation=cube.observation,
        )
        for first in range(0, rows * cube.images, rows)
    ]
