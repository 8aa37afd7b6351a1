"""Straight lines through a source, as satellites and diffraction spikes draw them."""

import math

import numpy as np
from numpy.typing import NDArray

from astrotriton.detection.arrays import STAMP_RADIUS, STAMP_SIDE, Image, Values
from astrotriton.detection.compiled import compiled

_ANGLES = 12
# By how much a PSF may differ from a circle along a line: of a bright source that outweighs noise.
_UNROUND = 0.5


def trails(stamps: Image, inner: float) -> Values:
    """Significance of the best straight line through the middle of each stamp, float64 (N,).

    A line is 3 px wide, and as significant as its weaker half: a neighbour alone is no trail. What
    lies around the middle alike in all directions belongs to the source, however bright it is: of
    every pixel the median of those that are as far away is taken off, and half of what was taken
    off counts as its error.

    Parameters
    ----------
    stamps
        float32 (N, 25, 25), sigma; 0 where unusable.
    inner
        What lies no farther from the middle than this is left out, pixels.
    """
    flat = stamps.reshape(-1, STAMP_SIDE**2)
    rings = _RINGS, _OUTWARDS, _BORDERS
    return _trails(flat, _LINE_PIXELS, _LINE_DISTANCES, *rings, inner)


def _lines() -> tuple[NDArray[np.intp], Image]:
    """Straight lines through a stamp's centre, 3 px wide, at even angles.

    Returns
    -------
    Which pixels of a stamp each one crosses, intp (angles, N), and how far along it they lie from
    the centre, float32 (angles, N), pixels; lines with fewer pixels are filled up with the centre.
    """
    grid = np.arange(-STAMP_RADIUS, STAMP_RADIUS + 1.0)
    x, y = np.meshgrid(grid, grid)
    angles = np.arange(_ANGLES)[:, None, None] * np.pi / _ANGLES
    across = y * np.cos(angles) - x * np.sin(angles)
    along = x * np.cos(angles) + y * np.sin(angles)
    crossed = ((np.abs(across) <= 1.0) & (np.abs(along) <= STAMP_RADIUS)).reshape(len(angles), -1)
    most = crossed.sum(axis=1).max()
    pixels = np.full((len(angles), most), crossed.shape[1] // 2)
    distances = np.zeros((len(angles), most), np.float32)
    for angle, line in enumerate(crossed):
        found = np.flatnonzero(line)
        pixels[angle, : len(found)] = found
        distances[angle, : len(found)] = along[angle].ravel()[found]
    return pixels, distances


_LINE_PIXELS, _LINE_DISTANCES = _lines()


_GRID = np.arange(-STAMP_RADIUS, STAMP_RADIUS + 1.0)
# Of each pixel of a stamp, its distance from the middle in whole pixels; the pixels from the middle
# outwards, and where among them each ring begins.
_RINGS = np.rint(np.hypot(_GRID[:, None], _GRID[None, :])).astype(np.intp).ravel()
_OUTWARDS = np.argsort(_RINGS, kind="stable")
_BORDERS = np.searchsorted(_RINGS[_OUTWARDS], np.arange(STAMP_RADIUS + 2))


@compiled
def _trails(
    stamps: Image,
    pixels: NDArray[np.intp],
    distances: Image,
    rings: NDArray[np.intp],
    outwards: NDArray[np.intp],
    borders: NDArray[np.intp],
    inner: float,
) -> Values:
    """What `trails` answers, of stamps (N, 625), `_lines` and the rings of their pixels."""
    found = np.zeros(len(stamps))
    profile = np.zeros(rings.max() + 1, np.float32)
    for k in range(len(stamps)):
        for ring in range(STAMP_RADIUS + 1):
            members = outwards[borders[ring] : borders[ring + 1]]
            profile[ring] = np.median(stamps[k][members])
        for angle in range(len(pixels)):
            before = after = before_taken = after_taken = 0.0
            before_count = after_count = 0
            for i in range(pixels.shape[1]):
                pixel = pixels[angle, i]
                taken = max(profile[rings[pixel]], np.float32(0.0))
                if distances[angle, i] > inner:
                    after += stamps[k, pixel] - taken
                    after_taken += taken
                    after_count += 1
                elif distances[angle, i] < -inner:
                    before += stamps[k, pixel] - taken
                    before_taken += taken
                    before_count += 1
            weaker = min(
                before / math.sqrt(max(before_count, 1) + (_UNROUND * before_taken) ** 2),
                after / math.sqrt(max(after_count, 1) + (_UNROUND * after_taken) ** 2),
            )
            found[k] = max(found[k], weaker)
    return found * math.sqrt(2.0)
