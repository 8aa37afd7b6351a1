"""Small networks of many makes, by name, for the table of what converts."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from astrotriton.detection.card import TensorSpec, UNetModel

if TYPE_CHECKING:
    import keras

SIZE = 32

#: Builds a network, by name.
MODELS: "dict[str, Callable[[], keras.Model]]" = {}

#: Those of Keras' own encoders: a minute each, so for the long run.
ENCODERS = {
    "mobilenet_v2": ("MobileNetV2", {"alpha": 0.35}),
    "mobilenet_v3": ("MobileNetV3Small", {"alpha": 0.35}),
    "mobilenet_v3_minimalistic": ("MobileNetV3Small", {"minimalistic": True}),
    "efficientnet": ("EfficientNetB0", {}),
    "efficientnet_v2": ("EfficientNetV2B0", {}),
    "convnext": ("ConvNeXtTiny", {}),
    "resnet_v2": ("ResNet50V2", {}),
    "densenet": ("DenseNet121", {}),
}

#: How far Keras itself, where it computes in half precision, may be from the same in float32.
COARSE = {
    "mixed_float16": 5e-3,
    "mixed_float16_float32_head": 5e-3,
    "float16": 5e-3,
    "bfloat16": 3e-2,
    "mixed_bfloat16": 3e-2,
}

#: What the card says of those whose answer is no probability of one class.
CARDS = {
    "logits": {"activation": "sigmoid"},
    "softmax_of_three": {"classes": ("bogus", "star", "transient"), "positive_class": "transient"},
    "logits_of_two": {
        "activation": "softmax",
        "classes": ("bogus", "real"),
        "positive_class": "real",
    },
    "two_signs": {"polarities": (1, -1)},
}


def card_of(name: str, model: "keras.Model", **changes) -> UNetModel:
    """A card for a model, of its own shapes."""
    image = (
        tuple(model.inputs[0].shape) if getattr(model, "inputs", None) else (None, SIZE, SIZE, 1)
    )
    answer = (None, *image[1:3], 1)
    if getattr(model, "outputs", None):
        answer = tuple(model.outputs[0].shape)
    if image[1] in (1, 3):  # channels first
        image, answer = (None, *image[2:], image[1]), (None, *answer[2:], answer[1])
    said = CARDS.get(name, {})
    channels = 1 if "classes" in said else answer[3]
    return UNetModel(
        name=name,
        trained_at=datetime(2026, 11, 1, tzinfo=UTC),
        input=TensorSpec(name="image", shape=(-1, image[3], *image[1:3])),
        output=TensorSpec(name="probability", shape=(-1, channels, *answer[1:3])),
        overlap=8,
        **{**said, **changes},
    )


def tiles_of(card: UNetModel, count: int = 3):
    """Noise as a network sees it."""
    return np.random.default_rng(1).normal(size=(count, *card.input.shape[1:])).astype(np.float32)


def _model(build):
    MODELS[build.__name__.strip("_")] = build
    return build


def _block(build):
    """A block between two convolutions."""
    MODELS[build.__name__.strip("_")] = lambda: _around(build)
    return build


def _around(block, head=None, **image):
    import keras
    from keras import layers

    given = keras.Input((SIZE, SIZE, 1), **image)
    features = block(layers.Conv2D(4, 3, padding="same")(given))
    head = head or layers.Conv2D(1, 1, activation="sigmoid")
    return keras.Model(given, head(features))


def _layer(name, make):
    """One layer between two convolutions; made when it is asked for."""

    def block(features):
        from keras import layers

        return make(layers)(features)

    MODELS[name] = lambda: _around(block)


def _activation(name):
    _layer(f"activation_{name}", lambda layers: layers.Activation(name))


for _name in (
    "gelu",
    "celu",
    "selu",
    "elu",
    "softplus",
    "silu",
    "mish",
    "hard_sigmoid",
    "hard_silu",
    "relu6",
    "leaky_relu",
    "softsign",
    "log_sigmoid",
    "soft_shrink",
    "squareplus",
):
    _activation(_name)

_layer("prelu", lambda k: k.PReLU(shared_axes=[1, 2], alpha_initializer="random_normal"))
_layer("batch_norm", lambda k: k.BatchNormalization())
_layer("layer_norm", lambda k: k.LayerNormalization())
_layer("layer_norm_of_the_image", lambda k: k.LayerNormalization(axis=[1, 2, 3]))
_layer("group_norm", lambda k: k.GroupNormalization(2))
_layer("instance_norm", lambda k: k.GroupNormalization(-1))
_layer("rms_norm", lambda k: k.RMSNormalization())
_layer("unit_norm", lambda k: k.UnitNormalization(axis=-1))
_layer("spectral_norm", lambda k: k.SpectralNormalization(k.Conv2D(4, 3, padding="same")))
_layer("rescaling", lambda k: k.Rescaling(0.5, 0.1))
_layer("separable", lambda k: k.SeparableConv2D(4, 3, padding="same"))
_layer("depthwise", lambda k: k.DepthwiseConv2D(5, padding="same", depth_multiplier=2))
_layer("dilated", lambda k: k.Conv2D(4, 3, dilation_rate=2, padding="same"))
_layer("grouped", lambda k: k.Conv2D(4, 3, groups=2, padding="same"))
_layer("dense_channels", lambda k: k.Dense(6, activation="relu"))
_layer("einsum_dense", lambda k: k.EinsumDense("bhwc,cd->bhwd", output_shape=(SIZE, SIZE, 6)))
_layer("gaussian_noise", lambda k: k.GaussianNoise(0.1))
_layer("spatial_dropout", lambda k: k.SpatialDropout2D(0.2))


def _up(name, make):
    def block(features):
        from keras import layers

        return make(layers)(layers.MaxPooling2D()(features))

    MODELS[f"up_{name}"] = lambda: _around(block)


_up("nearest", lambda k: k.UpSampling2D())
_up("bilinear", lambda k: k.UpSampling2D(interpolation="bilinear"))
_up("bicubic", lambda k: k.UpSampling2D(interpolation="bicubic"))
_up("lanczos", lambda k: k.UpSampling2D(interpolation="lanczos3"))
_up("resizing", lambda k: k.Resizing(SIZE, SIZE))
_up("transposed", lambda k: k.Conv2DTranspose(4, 3, strides=2, padding="same"))
_up("transposed_valid", lambda k: k.Conv2DTranspose(4, 2, strides=2))


@_block
def gelu_by_tanh(features):
    import keras

    return keras.ops.gelu(features, approximate=True)


@_block
def pad_and_crop(features):
    from keras import layers

    return layers.Cropping2D(3)(layers.ZeroPadding2D(3)(features))


@_block
def reflected_border(features):
    import keras

    padded = keras.ops.pad(features, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="reflect")
    return keras.layers.Conv2D(4, 3)(padded)


@_block
def symmetric_border(features):
    import keras

    padded = keras.ops.pad(features, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="symmetric")
    return keras.layers.Conv2D(4, 3)(padded)


def _normalised(layer):
    import keras

    image = keras.Input((SIZE, SIZE, 1))
    head = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")
    return keras.Model(image, head(layer(image)))


@_model
def normalization_given():
    import keras

    return _normalised(keras.layers.Normalization(mean=0.3, variance=2.0))


@_model
def normalization_adapted():
    import keras

    layer = keras.layers.Normalization()
    layer.adapt(np.random.default_rng(1).normal(0.3, 2.0, (8, SIZE, SIZE, 1)))
    return _normalised(layer)


@_block
def squeeze_excite_dense(features):
    from keras import layers

    seen = layers.Dense(2, activation="relu")(layers.GlobalAveragePooling2D()(features))
    seen = layers.Dense(4, activation="sigmoid")(seen)
    return layers.Multiply()([features, layers.Reshape((1, 1, 4))(seen)])


@_block
def squeeze_excite_keepdims(features):
    from keras import layers

    seen = layers.GlobalAveragePooling2D(keepdims=True)(features)
    return features * layers.Dense(4, activation="sigmoid")(layers.Dense(2)(seen))


@_block
def squeeze_excite_convolution(features):
    from keras import layers

    seen = layers.GlobalAveragePooling2D(keepdims=True)(features)
    return features * layers.Conv2D(4, 1, activation="hard_sigmoid")(seen)


@_block
def spatial_attention(features):
    import keras

    seen = [op(features, axis=-1, keepdims=True) for op in (keras.ops.max, keras.ops.mean)]
    joined = keras.layers.Concatenate()(seen)
    return features * keras.layers.Conv2D(1, 7, padding="same", activation="sigmoid")(joined)


@_block
def attention_gate(features):
    from keras import layers

    low = layers.Conv2D(4, 3, strides=2, padding="same")(features)
    both = layers.Add()([layers.Conv2D(4, 1)(features), layers.UpSampling2D()(low)])
    gate = layers.Conv2D(1, 1, activation="sigmoid")(layers.Activation("relu")(both))
    return layers.Multiply()([features, gate])


@_block
def transformer_bottleneck(features):
    from keras import layers

    tokens = layers.Reshape((64, 8))(layers.Conv2D(8, 4, strides=4)(features))
    seen = layers.LayerNormalization()(tokens)
    tokens = layers.Add()([tokens, layers.MultiHeadAttention(2, 4)(seen, seen)])
    seen = layers.Dense(16, activation="gelu")(layers.LayerNormalization()(tokens))
    tokens = layers.Add()([tokens, layers.Dense(8)(seen)])
    return layers.UpSampling2D(4)(layers.Reshape((8, 8, 8))(tokens))


@_block
def non_local(features):
    from keras import layers

    tokens = layers.Reshape((64, 4))(layers.Conv2D(4, 4, strides=4)(features))
    seen = layers.Reshape((8, 8, 4))(layers.Attention()([tokens, tokens]))
    return layers.Add()([features, layers.UpSampling2D(4)(seen)])


@_model
def dense_head():
    import keras
    from keras import layers

    image = keras.Input((SIZE, SIZE, 1))
    low = layers.MaxPooling2D(4)(layers.Conv2D(4, 3, padding="same")(image))
    flat = layers.Dense(SIZE * SIZE, activation="sigmoid")(layers.Flatten()(low))
    return keras.Model(image, layers.Reshape((SIZE, SIZE, 1))(flat))


@_block
def conv_lstm(features):
    from keras import layers

    return layers.ConvLSTM2D(3, 3, padding="same")(layers.Reshape((1, SIZE, SIZE, 4))(features))


@_block
def convolution_in_3d(features):
    from keras import layers

    cube = layers.Conv3D(2, 3, padding="same")(layers.Reshape((SIZE, SIZE, 4, 1))(features))
    return layers.Reshape((SIZE, SIZE, 8))(cube)


@_block
def rows_by_lstm(features):
    from keras import layers

    rows = layers.LSTM(2 * SIZE, return_sequences=True)(layers.Reshape((SIZE, 4 * SIZE))(features))
    return layers.Reshape((SIZE, SIZE, 2))(rows)


@_block
def convnext_block(features):
    from keras import layers

    seen = layers.LayerNormalization()(layers.DepthwiseConv2D(7, padding="same")(features))
    seen = layers.Dense(4)(layers.Activation("gelu")(layers.Dense(16)(seen)))
    return layers.Add()([features, seen])


@_block
def pixel_shuffle(features):
    from keras import layers

    half = SIZE // 2
    low = layers.Reshape((half, half, 2, 2, 4))(
        layers.Conv2D(16, 3, strides=2, padding="same")(features)
    )
    return layers.Reshape((SIZE, SIZE, 4))(layers.Permute((1, 3, 2, 4, 5))(low))


@_block
def turned_and_back(features):
    from keras import layers

    first = layers.LayerNormalization(axis=[2, 3])(layers.Permute((3, 1, 2))(features))
    return layers.Permute((2, 3, 1))(first)


@_block
def nested(features):
    import keras
    from keras import layers

    inner = [keras.Input((SIZE, SIZE, 4)), layers.Conv2D(4, 3, padding="same")]
    return keras.Sequential([*inner, layers.GroupNormalization(2)])(features)


@_model
def sequential():
    import keras
    from keras import layers

    first = layers.Conv2D(4, 3, padding="same", activation="relu")
    head = layers.Conv2D(1, 1, activation="sigmoid")
    return keras.Sequential([keras.Input((SIZE, SIZE, 1)), first, head])


def _of_policy(policy, head=None):
    def build():
        import keras
        from keras import layers

        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(policy)
        try:
            image = keras.Input((SIZE, SIZE, 1))
            features = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
            features = layers.MaxPooling2D()(layers.BatchNormalization()(features))
            features = layers.UpSampling2D()(features)
            return keras.Model(
                image, layers.Conv2D(1, 1, activation="sigmoid", dtype=head)(features)
            )
        finally:
            keras.config.set_dtype_policy(before)

    return build


MODELS |= {
    "mixed_float16": _of_policy("mixed_float16"),
    "mixed_float16_float32_head": _of_policy("mixed_float16", "float32"),
    "float16": _of_policy("float16"),
    "bfloat16": _of_policy("bfloat16"),
    "mixed_bfloat16": _of_policy("mixed_bfloat16"),
    "float64": _of_policy("float64"),
    "fixed_batch": lambda: _around(lambda features: features, batch_size=4),
}


@_model
def channels_first():
    import keras
    from keras import layers

    first = {"data_format": "channels_first"}
    image = keras.Input((1, SIZE, SIZE))
    high = layers.Conv2D(4, 3, padding="same", **first)(image)
    high = layers.Activation("relu")(layers.BatchNormalization(axis=1)(high))
    low = layers.Conv2D(8, 3, padding="same", **first)(layers.MaxPooling2D(**first)(high))
    both = layers.Concatenate(axis=1)([layers.UpSampling2D(**first)(low), high])
    both = layers.Conv2DTranspose(4, 3, padding="same", **first)(both)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid", **first)(both))


@_block
def channels_first_within(features):
    from keras import layers

    first = layers.Conv2D(4, 3, padding="same", data_format="channels_first")
    return layers.Permute((2, 3, 1))(first(layers.Permute((3, 1, 2))(features)))


@_block
def lambda_layer(features):
    from keras import layers

    return layers.Lambda(lambda given: given * 2.0)(features)


@_model
def subclassed():
    import keras
    import tensorflow as tf
    from keras import layers

    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.first = layers.Conv2D(4, 3, padding="same")
            self.head = layers.Conv2D(1, 1, activation="sigmoid")

        def call(self, image):
            return self.head(tf.nn.relu(self.first(image)))

    network = Network()
    network(np.zeros((1, SIZE, SIZE, 1), np.float32))
    return network


@_block
def layer_without_a_configuration(features):
    import keras

    class Scaled(keras.layers.Layer):
        def __init__(self, by):
            super().__init__()
            self.by = by

        def call(self, given):
            return given * self.by

    return Scaled(2.0)(features)


def _answering(channels, activation=None):
    def build():
        from keras import layers

        return _around(lambda features: features, layers.Conv2D(channels, 1, activation=activation))

    return build


MODELS |= {
    "logits": _answering(1),
    "softmax_of_three": _answering(3, "softmax"),
    "logits_of_two": _answering(2),
    "two_signs": _answering(2, "sigmoid"),
}


def with_encoder(name: str) -> "keras.Model":
    """A network whose encoder is one of Keras's own, of 64 x 64 pixels."""
    import keras
    from keras import layers

    kind, said = ENCODERS[name]
    encoder = getattr(keras.applications, kind)
    base = encoder(input_shape=(64, 64, 3), include_top=False, weights=None, **said)
    features = base.output
    while features.shape[1] < 64:
        features = layers.Conv2D(8, 3, padding="same")(layers.UpSampling2D()(features))
    return keras.Model(base.input, layers.Conv2D(1, 1, activation="sigmoid")(features))
