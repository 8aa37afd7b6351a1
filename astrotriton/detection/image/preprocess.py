"""From pixel values to what the network sees.

Training and serving read an exposure through `Normalised` with the same card, so there is one
definition of the input. Serving does so tile by tile; `normalise` wraps it for a whole image.
"""

from collections.abc import Callable, Sequence

import numpy as np

from astrotriton.detection.arrays import Image, Mask
from astrotriton.detection.compiled import compiled
from astrotriton.detection.errors import InputError
from astrotriton.detection.image.background import Background, Read
from astrotriton.detection.image.normalisation import Normalisation
from astrotriton.detection.image.resize import resize

Spread = Callable[[slice, slice], Image]
"""Reads the noise of some rows and columns, in any unit: float32, not above 0 where unknown."""

MIN_USABLE_PIXELS = 64
# Rows read for the pedestal and scale, few enough for a huge exposure, and pixels looked at: they
# only have to be near, since the background's fit starts from there.
_ROWS = 32
_ENOUGH_PIXELS = 4 * 1024
_STRIP = 64
# In units of the noise. Beyond the first a float32 sum of squares loses the noise; below the second
# a cell has no noise of its own.
_MOST, _LEAST_RMS = 1e6, 0.1
# A weight plane whose noise differs by less than this, relatively, only says what is usable.
_SAME = 1e-3


class Normalised:
    """An exposure ready for the network, made piece by piece so that it never exists whole.

    `normalise` makes one.

    Parameters
    ----------
    read
        Reads pixels.
    shape, how
        As the attributes.
    spread
        Reads the noise of each pixel where a weight plane says it, float32, in any unit: a factor
        brings it to the noise that is measured. None: the noise is measured on the mesh.

    Attributes
    ----------
    shape
        Rows and columns, pixels.
    how
        The card's mesh, softening and clip.
    background, gradient, noise
        Median background and median rms in counts; range of the background in units of the noise.
    masked_fraction
        Share of pixels that say nothing.
    """

    def __init__(
        self,
        read: Read,
        shape: tuple[int, int],
        how: Normalisation,
        spread: Spread | None = None,
    ) -> None:
        self._read = read
        self.shape = shape
        self.how = how
        self._pedestal, self._scale = _pedestal_and_scale(read, shape)
        masked = 0

        def scaled(rows: slice, columns: slice) -> tuple[Image, Mask]:
            nonlocal masked
            data, mask = read(rows, columns)
            masked += int(np.count_nonzero(mask))
            return self._scaled(data, mask), mask

        self._background = Background.fit(scaled, shape, how.mesh)
        self.masked_fraction = masked / (shape[0] * shape[1])
        self._spread, self._per_spread = spread, np.float32(1.0)
        noise = float(np.median(self._background.rms))
        if spread is not None:
            noise = self._adopt(spread, noise)
        self.background = self._pedestal + self._scale * float(np.median(self._background.level))
        self.gradient = float(np.ptp(self._background.level)) / noise
        self.noise = self._scale * noise

    def _adopt(self, spread: Spread, measured: float) -> float:
        """Bring the noise that a plane says to the measured one; the median, in units of scale."""
        usual, same = _median_spread(self._read, spread, self.shape)
        if same:
            self._spread = None
            return measured

        def relative(rows: slice, columns: slice) -> tuple[Image, Mask]:
            data, mask = self._read(rows, columns)
            level, _ = self._background.at(rows, columns)
            result = self._scaled(data, mask)
            noise = spread(rows, columns) / np.float32(usual)
            mask = mask | ~(noise > 0.0)
            _standardise(result, mask, level, noise)
            return result, mask

        fitted = Background.fit(relative, self.shape, self.how.mesh)
        noise = float(np.median(fitted.rms))
        self._per_spread = np.float32(noise / usual)
        return noise

    def _level_and_rms(self, rows: slice, columns: slice) -> tuple[Image, Image]:
        """Background and noise of a piece, without pedestal and in units of the scale."""
        level, rms = self._background.at(rows, columns)
        if self._spread is not None:
            said = self._spread(rows, columns) * self._per_spread
            rms = np.where(said > 0.0, said, rms)
            return level, np.ascontiguousarray(rms, np.float32)
        return level, np.maximum(rms, np.float32(_LEAST_RMS))

    def piece(
        self, rows: slice, columns: slice, saturation: float | None = None
    ) -> tuple[Image, Mask, Mask]:
        """Significance of a piece, its mask, and which pixels reach the saturation level.

        The significance is (data - background) / rms, float32 in sigma, 0 where masked.
        """
        data, mask = self._read(rows, columns)
        level, rms = self._level_and_rms(rows, columns)
        result = self._scaled(data, mask)
        _standardise(result, mask, level, rms)
        if saturation is None:
            return result, mask, np.zeros_like(mask)
        with np.errstate(invalid="ignore"):
            saturated = data >= saturation
        return result, mask, saturated & ~mask

    def maps(self, rows: slice, columns: slice) -> tuple[Image, Image]:
        """Background and rms of a piece, float32 in counts."""
        level, rms = self._level_and_rms(rows, columns)
        scale = np.float32(self._scale)
        return level * scale + np.float32(self._pedestal), rms * scale

    def view(self, significance: Image) -> Image:
        """What the network sees of a piece: resized, asinh(significance / softening), clipped.

        Coarser pixels are brought back to a noise of 1, as it is where neighbours are independent.
        """
        scale = self.how.resize
        rows, columns = significance.shape
        seen = resize(significance, (round(rows * scale), round(columns * scale)))
        return asinh(seen, self.how.softening * min(scale, 1.0), self.how.clip)

    def image(self) -> Image:
        """All that the network sees, float32; for exposures that fit in memory."""
        significance, _, _ = self.piece(slice(0, self.shape[0]), slice(0, self.shape[1]))
        return self.view(significance)

    def _scaled(self, data: Image, mask: Mask) -> Image:
        """Without pedestal and scale, contiguous: float32 has no room for a large pedestal."""
        pedestal, scale = np.float32(self._pedestal), np.float32(self._scale)
        # One kind of array, or others are compiled for while somebody waits.
        data = np.require(data, np.float32, ["C", "W"])
        return _scaled(data, np.ascontiguousarray(mask), pedestal, scale)


@compiled
def _scaled(data: Image, mask: Mask, pedestal: np.float32, scale: np.float32) -> Image:
    """(data - pedestal) / scale within bounds, and 0 where masked."""
    found = np.empty_like(data)
    most = np.float32(_MOST)
    for row in range(len(data)):
        values, unusable, scaled = data[row], mask[row], found[row]
        for i in range(len(values)):
            value = min(max((values[i] - pedestal) / scale, -most), most)
            scaled[i] = np.float32(0.0) if unusable[i] else value
    return found


@compiled
def _standardise(values: Image, mask: Mask, level: Image, rms: Image) -> None:
    """Make the significance of values: (value - level) / rms, and 0 where masked."""
    for row in range(len(values)):
        into, unusable, sky, noise = values[row], mask[row], level[row], rms[row]
        for i in range(len(into)):
            value = (into[i] - sky[i]) / noise[i]
            into[i] = np.float32(0.0) if unusable[i] else value


def asinh(values: Image, softening: float = 1.0, clip: float = np.inf) -> Image:
    """Inverse hyperbolic sine of ``values / softening``, to 1e-7, at most ``clip`` either way.

    NaN stays NaN. A logarithm takes a tenth of the time: NumPy computes many of them at once, and
    ``arcsinh`` one by one.
    """
    flat = values.reshape(-1)
    found = _power(flat, np.float32(1.0 / softening))
    np.log(found, out=found)
    _sign(found, flat, np.float32(clip))
    return found.reshape(values.shape)


@compiled
def _power(values: Image, scale: np.float32) -> Image:
    """The exponential of the asinh of the size of scaled values."""
    found = np.empty_like(values)
    for i in range(len(values)):
        size = abs(values[i] * scale)
        found[i] = size + np.sqrt(size * size + np.float32(1.0))
    return found


@compiled
def _sign(sizes: Image, values: Image, most: np.float32) -> None:
    """Cut sizes, and give them the signs of values."""
    for i in range(len(sizes)):
        size = most if sizes[i] > most else sizes[i]
        sizes[i] = np.copysign(size, values[i])


def normalise(data: Image, mask: Mask, how: Normalisation) -> Normalised:
    """Subtract the background, divide by the noise, resize and stretch.

    The background is that of `Background`. The asinh stretch (Lupton et al. 2004) is linear in the
    noise and logarithmic in bright sources. Multiplying the data by a positive constant, or adding
    one, changes nothing.

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
    return Normalised(
        lambda rows, columns: (data[rows, columns], mask[rows, columns]), data.shape, how
    )


def _pedestal_and_scale(read: Read, shape: tuple[int, int]) -> tuple[float, float]:
    """Median and robust standard deviation of the pixels, on some rows."""
    rows = np.unique(np.linspace(0, shape[0] - 1, _ROWS).round().astype(int)).tolist()
    usable = _usable(read, shape, [slice(row, row + 1) for row in rows])
    if usable.size < MIN_USABLE_PIXELS:
        # A sparse exposure: look at all of it before giving up.
        strips = range(0, shape[0], _STRIP)
        usable = _usable(read, shape, [slice(row, min(row + _STRIP, shape[0])) for row in strips])
    if usable.size < MIN_USABLE_PIXELS:
        raise InputError(
            "no-usable-pixels",
            "exposure",
            "hardly any pixel is a finite number, so there is nothing to score",
        )
    usable = usable[:: -(-usable.size // _ENOUGH_PIXELS)]
    pedestal = float(np.median(usable))
    scale = float(np.median(np.abs(usable - np.float32(pedestal)))) * 1.4826
    if scale == 0.0:
        scale = float(np.std(usable, dtype=np.float64))
    if not np.isfinite(scale) or scale <= 0.0:
        raise InputError(
            "no-noise",
            "exposure",
            "its pixels have no spread, so a signal-to-noise ratio cannot be formed; send an"
            " exposure with noise in it",
        )
    return pedestal, scale


def _median_spread(read: Read, spread: Spread, shape: tuple[int, int]) -> tuple[float, bool]:
    """Of what a plane says on some rows; and whether it says the same everywhere, or nothing."""
    found = []
    for row in np.unique(np.linspace(0, shape[0] - 1, 8 * _ROWS).round().astype(int)).tolist():
        _, mask = read(slice(row, row + 1), slice(0, shape[1]))
        said = spread(slice(row, row + 1), slice(0, shape[1]))
        found.append(said[~mask & (said > 0.0)])
    usable = np.concatenate(found)
    if usable.size < MIN_USABLE_PIXELS:
        return 1.0, True
    usual = float(np.median(usable))
    return usual, bool(np.ptp(usable) < _SAME * usual)


def _usable(read: Read, shape: tuple[int, int], strips: Sequence[slice]) -> Image:
    """The usable pixels of some rows, float32 (N,)."""
    parts = []
    for rows in strips:
        data, mask = read(rows, slice(0, shape[1]))
        parts.append(data[~mask])
    return np.concatenate(parts)
