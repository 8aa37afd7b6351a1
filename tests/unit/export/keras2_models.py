"""Networks that other packages build with Keras 2, written to files with what they answer.

Run as a command, with `ENVIRONMENT`: see `test_export_models`.
"""

import sys
from pathlib import Path

#: Puts Keras 2 in the place of Keras 3.
ENVIRONMENT = {"TF_USE_LEGACY_KERAS": "1", "SM_FRAMEWORK": "tf.keras"}

_ANSWER = {"n_labels": 1, "output_activation": "Sigmoid"}
_IMAGE = {"input_size": (64, 64, 1), **_ANSWER}
_THREE = {"filter_num": [4, 8, 16], **_IMAGE}
_COLLECTION = "keras_unet_collection.models"

#: The function that builds each, and its arguments.
MODELS = {
    "unet": (_COLLECTION, "unet_2d", {"batch_norm": True, **_THREE}),
    "unet_plus": (_COLLECTION, "unet_plus_2d", _THREE),
    "r2_unet": (_COLLECTION, "r2_unet_2d", _THREE),
    "attention_unet": (_COLLECTION, "att_unet_2d", _THREE),
    "unet_3plus": (_COLLECTION, "unet_3plus_2d", {"filter_num_down": [4, 8, 16], **_IMAGE}),
    "transunet": (
        _COLLECTION,
        "transunet_2d",
        {"embed_dim": 16, "num_mlp": 32, "num_heads": 2, "num_transformer": 1, **_THREE},
    ),
    "custom_unet": (
        "keras_unet.models",
        "custom_unet",
        {"input_shape": (64, 64, 1), "filters": 4, "num_layers": 2},
    ),
    "custom_unet_attention": (
        "keras_unet.models",
        "custom_unet",
        {
            "input_shape": (64, 64, 1),
            "filters": 4,
            "num_layers": 2,
            "use_attention": True,
            "upsample_mode": "simple",
        },
    ),
    "care": (
        "csbdeep.internals.nets",
        "common_unet",
        {"n_dim": 2, "n_depth": 2, "n_first": 4, "n_channel_out": 1, "residual": True},
    ),
    "stardist": ("stardist.models", "StarDist2D", {}),
    # From here on for the long run.
    "resunet_a": (
        _COLLECTION,
        "resunet_a_2d",
        {"dilation_num": [1, 2], "aspp_num_down": 8, "aspp_num_up": 8, **_THREE},
    ),
    "u2net": (
        _COLLECTION,
        "u2net_2d",
        {
            "filter_num_down": [4, 8],
            "filter_mid_num_down": [4, 4],
            "filter_4f_num": [8, 8],
            "filter_4f_mid_num": [4, 4],
            **_IMAGE,
        },
    ),
    "swin_unet": (
        _COLLECTION,
        "swin_unet_2d",
        {
            "filter_num_begin": 8,
            "depth": 2,
            "stack_num_down": 2,
            "stack_num_up": 2,
            "patch_size": (2, 2),
            "num_heads": [2, 2],
            "window_size": [4, 4],
            "num_mlp": 16,
            **_IMAGE,
        },
    ),
    "vanilla_unet": (
        "keras_unet.models",
        "vanilla_unet",
        {"input_shape": (188, 188, 1), "num_classes": 1, "num_layers": 2, "filters": 4},
    ),
    "satellite_unet": (
        "keras_unet.models",
        "satellite_unet",
        {"input_shape": (64, 64, 1), "num_classes": 1},
    ),
    "resnet_unet": ("segmentation_models", "Unet", {"backbone_name": "resnet18"}),
    "mobilenet_fpn": ("segmentation_models", "FPN", {"backbone_name": "mobilenetv2"}),
    "efficientnet_linknet": ("segmentation_models", "Linknet", {"backbone_name": "efficientnetb0"}),
}
LONG = list(MODELS)[list(MODELS).index("resunet_a") :]

#: The packages that they come from.
PACKAGES = (
    "keras-unet-collection==0.1.13",
    "keras-unet==0.1.2",
    "csbdeep==0.8.2",
    "stardist==0.9.2",
    "scikit-image",
    "imageio",
    "lazy-loader",
    "tifffile",
    "tqdm",
)
LONG_PACKAGES = (
    "segmentation-models==1.0.1",
    "efficientnet==1.1.1",
    "image-classifiers==1.0.0",
    "keras-applications==1.0.8",
)


def main(folder: Path, names: list[str]) -> None:
    """Write ``NAME.h5``, or a SavedModel, and ``NAME.npz`` of each."""
    import importlib

    import numpy as np
    import tf_keras

    for name in names:
        tf_keras.utils.set_random_seed(1)
        module, function, arguments = MODELS[name]
        made = getattr(importlib.import_module(module), function)
        if module == "segmentation_models":
            model = made(input_shape=(64, 64, 3), encoder_weights=None, **arguments)
        elif module == "csbdeep.internals.nets":
            model = made(**arguments)((64, 64, 1))
        elif module == "stardist.models":
            sizes = {"n_rays": 8, "unet_n_filter_base": 4, "unet_n_depth": 2}
            said = importlib.import_module(module).Config2D(net_conv_after_unet=8, **sizes)
            model = made(said, name=None, basedir=None).keras_model
        else:
            model = made(**arguments)
        own = any(not type(layer).__module__.startswith("tf_keras.") for layer in model.layers)
        # Who has not the code of a package's layers has their SavedModel.
        model.save(folder / name if own else folder / f"{name}.h5")
        size = (64 if None in model.input_shape[1:3] else model.input_shape[1],) * 2
        shape = (3, *size, model.input_shape[3])
        image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        answers = model(image, training=False)
        answers = answers if isinstance(answers, (list, tuple)) else [answers]
        names_of = model.output_names
        np.savez(
            folder / f"{name}.npz",
            image=image,
            names=np.array(names_of),
            **{one: np.asarray(value) for one, value in zip(names_of, answers, strict=True)},
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
