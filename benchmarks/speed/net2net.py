"""A larger U-Net that answers as a smaller one does (Chen et al. 2016, Net2Net).

A large network of random weights would find no sources, or thousands: what follows inference would
then cost something else than it does. One that is made of a trained network costs as much as any of
its size, and finds what that one finds.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

# Of a block: twice a kernel, then what batch normalisation multiplies with, adds, takes off, and
# divides by.
_ARRAYS = 10
# What Keras adds to a variance.
_EPSILON = 1e-3


def grow(small: "keras.Model", large: "keras.Model", *, levels: int, deeper: int) -> None:
    """Give a U-Net of `training.network.build_unet` weights with which it answers as another one.

    Parameters
    ----------
    small
        The other one.
    large
        Has a multiple of its filters.
    levels
        Of the small one.
    deeper
        How many levels more the large one has.
    """
    weights = small.get_weights()
    for level in range(levels, levels + deeper):
        weights = deepen(weights, level)
    pairs = zip(weights, large.get_weights(), strict=True)
    large.set_weights([widen(old, new.shape) for old, new in pairs])


def deepen(weights: list[np.ndarray], levels: int) -> list[np.ndarray]:
    """Weights of a U-Net that has one level more and answers the same.

    Parameters
    ----------
    weights
        Of a U-Net of so many levels: the blocks on the way down, those on the way up, the last
        convolution.
    levels
        How many it has.

    Returns
    -------
    The former bottleneck goes on to a new one of random weights. What comes back of that counts
    nothing, and what the former one passed across is left as it is.
    """
    down = levels * _ARRAYS
    channels = weights[down - _ARRAYS].shape[-1]
    identity = np.zeros((3, 3, channels, channels), np.float32)
    identity[1, 1] = np.eye(channels)
    nothing = np.zeros((3, 3, 2 * channels, channels), np.float32)
    random = np.random.default_rng(levels)

    def drawn(inputs: int) -> np.ndarray:
        deviation = (2.0 / (9 * inputs)) ** 0.5
        return random.normal(0.0, deviation, (3, 3, inputs, 2 * channels)).astype(np.float32)

    bottleneck = [*_plain(drawn(channels)), *_plain(drawn(2 * channels))]
    back = [*_plain(np.concatenate([nothing, identity], axis=2)), *_plain(identity)]
    return [*weights[:down], *bottleneck, *back, *weights[down:]]


def _plain(kernel: np.ndarray) -> list[np.ndarray]:
    """A convolution that batch normalisation changes nothing of."""
    one, zero = np.ones(kernel.shape[-1], np.float32), np.zeros(kernel.shape[-1], np.float32)
    return [kernel, one, zero, zero, one - np.float32(_EPSILON)]


def widen(weights: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of a layer that has more filters and answers the same.

    Parameters
    ----------
    weights
        Of a convolution (height, width, inputs, outputs), or one number a channel.
    shape
        Of the wide layer.

    Returns
    -------
    Each channel repeated; where a channel comes in several times, it counts the less.
    """
    for axis in range(max(weights.ndim - 2, 0), weights.ndim):
        times = shape[axis] // weights.shape[axis]
        weights = np.repeat(weights, times, axis)
        if weights.ndim == 4 and axis == 2:
            weights = weights / np.float32(times)
    return weights
