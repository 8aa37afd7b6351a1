"""The reference U-Net's architecture."""

from typing import TYPE_CHECKING

import numpy as np

from astrotriton.detection.arrays import Image
from astrotriton.detection.scoring.inference import Predict

if TYPE_CHECKING:  # TensorFlow takes ten seconds to import: only what builds a network pays for it
    import keras


def build_unet(
    size: tuple[int, int],
    *,
    channels: int = 1,
    filters: int = 8,
    levels: int = 4,
    answers: int = 1,
    name: str = "unet_astronomical",
) -> "keras.Model":
    """A U-Net (Ronneberger et al. 2015) with batch normalisation and same padding.

    Fully convolutional: weights trained on one size fit every other.

    Parameters
    ----------
    size
        Height and width of the input in pixels, multiples of 2**(levels - 1).
    channels
        Channels of the input.
    filters
        Filters of the first level; each further level has twice as many.
    levels
        Number of resolutions, the first one included.
    answers
        Channels of the output: 1 for sources that brighten, or 2, of which the second is for those
        that fade.

    Returns
    -------
    keras.Model
        Input ``image`` float32 (N, H, W, channels), output ``probability`` float32 (N, H, W,
        answers): that of a source that brightens, and of one that fades, which share all but the
        last layer.
    """
    import keras
    from keras import layers

    def block(x: "keras.KerasTensor", width: int) -> "keras.KerasTensor":
        for _ in range(2):
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            x = layers.BatchNormalization(momentum=0.95)(x)
            x = layers.ReLU()(x)
        return x

    image = x = layers.Input((*size, channels), name="image")
    skips = []
    for level in range(levels - 1):
        x = block(x, filters * 2**level)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, filters * 2 ** (levels - 1))
    for level in reversed(range(levels - 1)):
        x = layers.UpSampling2D()(x)
        x = layers.Concatenate()([x, skips[level]])
        x = block(x, filters * 2**level)
    # Sources are rare: start from a low probability instead of learning it from a large loss.
    probability = layers.Conv2D(
        answers,
        1,
        activation="sigmoid",
        bias_initializer=keras.initializers.Constant(-5.0),
        name="probability",
    )(x)
    return keras.Model(image, probability, name=name)


def predicting(network: "keras.Model") -> Predict:
    """What answers tiles as detection passes them, (N, C, H, W), with a Keras network."""

    def predict(tiles: Image) -> Image:
        answer: Image = np.moveaxis(
            network.predict(np.moveaxis(tiles, 1, -1), batch_size=8, verbose=0), -1, 1
        )
        return answer

    return predict
