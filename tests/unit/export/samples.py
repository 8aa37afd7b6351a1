"""A small U-Net, its card, and structured tiles, for the tests of export."""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import onnx
from numpy.typing import NDArray

from astrotriton.detection.card import TensorSpec, UNetModel

if TYPE_CHECKING:
    import keras

    from astrotriton.export.accuracy import LabelledField

SIZE = 64
_SIGMA = 1.8  # of a point source, pixels


def card(name: str = "unet_small") -> UNetModel:
    return UNetModel(
        name=name,
        trained_at=datetime(2026, 11, 1, 12, tzinfo=UTC),
        training_metrics={"average_precision": 0.9},
        input=TensorSpec(name="image", shape=(-1, 1, SIZE, SIZE)),
        output=TensorSpec(name="probability", shape=(-1, 1, SIZE, SIZE)),
        overlap=16,
    )


def unet(size: int | None = SIZE, filters: int = 4, seed: int = 1) -> "keras.Model":
    """A U-Net of two levels, whose BatchNorm has statistics as if it were trained."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)

    def block(tensor: keras.KerasTensor, width: int) -> keras.KerasTensor:
        for _ in range(2):
            tensor = layers.Conv2D(width, 3, padding="same", use_bias=False)(tensor)
            tensor = layers.BatchNormalization()(tensor)
            tensor = layers.Activation("relu")(tensor)
        return tensor

    inputs = keras.Input((size, size, 1))
    first = block(inputs, filters)
    second = block(layers.MaxPooling2D()(first), 2 * filters)
    bottom = block(layers.MaxPooling2D()(second), 4 * filters)
    tensor = block(layers.Concatenate()([layers.UpSampling2D()(bottom), second]), 2 * filters)
    tensor = block(layers.Concatenate()([layers.UpSampling2D()(tensor), first]), filters)
    head = layers.Conv2D(1, 1, activation="sigmoid")
    model = keras.Model(inputs, head(tensor), name="unet")

    random = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights(
                [
                    random.uniform(0.7, 1.3, shape),
                    random.normal(0.0, 0.2, shape),
                    random.normal(0.0, 0.2, shape),
                    random.uniform(0.5, 1.5, shape),
                ]
            )
    # So that the answers use the whole range from 0 to 1.
    features = keras.Model(inputs, tensor)(tiles().transpose(0, 2, 3, 1)).numpy()
    kernel, _ = head.get_weights()
    logits = features @ kernel[0, 0]
    bias = np.array([-2.0 * logits.mean() / logits.std()])
    head.set_weights([2.0 * kernel / logits.std(), bias])
    return model


def two_inputs(named: bool = False) -> "keras.Model":
    """A network of a new image and of one with two channels, as a list or by name."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(4)
    images = {"new": keras.Input((SIZE, SIZE, 1), name="new")}
    images["old"] = keras.Input((SIZE, SIZE, 2), name="old")
    # The two are not alike, so that it shows if they are mixed up.
    parts = [layers.Conv2D(4, 3, padding="same", activation="relu")(one) for one in images.values()]
    head = layers.Conv2D(1, 1, activation="sigmoid", name="probability")
    return keras.Model(
        images if named else list(images.values()), head(layers.Concatenate()(parts))
    )


def perturbed(content: bytes, by: float) -> bytes:
    """The same ONNX graph with the weights of its last convolution changed."""
    graph = onnx.load_model_from_string(content)
    last = [node for node in graph.graph.node if node.op_type == "Conv"][-1].input[1]
    weights = next(tensor for tensor in graph.graph.initializer if tensor.name == last)
    changed = onnx.numpy_helper.to_array(weights) + np.float32(by)
    weights.CopyFrom(onnx.numpy_helper.from_array(changed, last))
    return graph.SerializeToString()


def tiles(count: int = 3, seed: int = 7) -> NDArray[np.float32]:
    """Noise, point sources, a spike as a cosmic ray leaves it, and an empty edge: (n, 1, H, W)."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    made = random.normal(0.0, 0.3, (count, 1, SIZE, SIZE))
    for tile in made[:, 0]:
        for row, column, flux in random.uniform((4, 4, 1), (SIZE - 4, SIZE - 4, 8), (5, 3)):
            tile += flux * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 1.8**2))
        row, column = random.integers(8, SIZE - 12, 2)
        tile[row, column : column + 4] = 8.0
        tile[:, -6:] = 0.0
    return made.astype(np.float32)


def detector(seed: int = 1, *, spoiled: bool = False, width: int = 4) -> "keras.Model":
    """A U-Net of two levels that finds point sources: what training would give, set by hand.

    Its skip connection carries the image convolved with a source's profile; ``spoiled`` networks
    look for something else. ``width`` filters make the lower level costlier and no better.
    """
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    offset = np.arange(-4, 5)
    profile = np.exp(-(offset[:, None] ** 2 + offset[None, :] ** 2) / (2 * _SIGMA**2))
    if spoiled:
        profile = np.roll(np.eye(9), 4, axis=0)
    profile /= np.sqrt(np.sum(profile**2))

    image = keras.Input((SIZE, SIZE, 1), name="image")
    skip = layers.Conv2D(4, 9, padding="same", use_bias=False, name="profile")(image)
    skip = layers.BatchNormalization()(skip)
    low = layers.MaxPooling2D()(layers.Activation("relu")(skip))
    low = layers.Conv2D(width, 3, padding="same", activation="relu")(low)
    low = layers.Conv2D(width, 3, padding="same", activation="relu")(low)
    both = layers.Concatenate()([layers.UpSampling2D()(low), skip])
    head = layers.Conv2D(1, 1, activation="sigmoid", name="probability")
    model = keras.Model(image, head(both), name="detector")

    random = np.random.default_rng(seed)
    kernel = random.normal(0.0, 0.05, (9, 9, 1, 4))
    kernel[:, :, 0, 0] = profile
    model.get_layer("profile").set_weights([kernel])
    weights = random.normal(0.0, 0.002, (1, 1, width + 4, 1))
    weights[0, 0, width, 0] = 3.0
    head.set_weights([weights, np.array([-9.0 - 0.01 * seed])])
    return model


def field(seed: int, shape: tuple[int, int] = (96, 96)) -> "LabelledField":
    """An exposure of noise and point sources, with its truth."""
    from astrotriton.detection.quality.transients import Transients
    from astrotriton.export.accuracy import LabelledField

    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = random.normal(0.0, 1.0, shape)
    positions = random.uniform(10, np.array(shape)[::-1] - 10, (5, 2))
    snr = random.uniform(12.0, 30.0, 5)
    for (x, y), ratio in zip(positions, snr, strict=True):
        peak = ratio / (np.sqrt(np.pi) * _SIGMA)
        image += peak * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * _SIGMA**2))
    return LabelledField(image.astype(np.float32), Transients.of(positions, snr))


def most_inside(lock: Callable[[], AbstractContextManager[None]], workers: int, turns: int) -> int:
    """How many of these threads, which take a lock in turns, were inside it at once."""
    inside = most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(turns):
            with lock():
                inside += 1
                most = max(most, inside)
                time.sleep(0.005)
                inside -= 1

    working = [threading.Thread(target=work) for _ in range(workers)]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    return most
