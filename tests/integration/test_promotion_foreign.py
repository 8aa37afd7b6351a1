"""Networks of other makes, from registration to Triton's answer."""

from datetime import UTC, datetime

import mlflow
import msgspec
import numpy as np
import pytest

from astrotriton.detection.card import TensorSpec, UNetModel
from astrotriton.detection.quality.golden import GOLDEN_FILE
from astrotriton.export import registry
from astrotriton.export.pipeline import export
from astrotriton.export.repository import Repository
from astrotriton.export.serving import Replica
from astrotriton.one_machine.trial_triton import open_sandbox
from astrotriton.settings import ModelConfig
from astrotriton.training.exposures import golden_tiles
from tests.integration.package_parts import installed_packages
from tests.unit.export import samples

pytestmark = pytest.mark.export

NAME = "pycda"


@pytest.fixture(scope="module")
def unet(tmp_path_factory):
    """``unet.h5`` of pycda: Keras 2.1.5, tiles of 256 pixels of whose middle 172 are answered."""
    folder = installed_packages(tmp_path_factory.mktemp("pycda"), "pycda==0.1.16")
    return folder / "pycda" / "models" / "unet.h5"


def test_foreign_unet_is_registered_exported_and_served(unet, tmp_path):
    import keras

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        model = keras.models.load_model(unet, compile=False)
        card = UNetModel(
            name=NAME,
            trained_at=datetime(2018, 4, 1, tzinfo=UTC),
            input=TensorSpec(name="image", shape=(-1, 1, 256, 256)),
            output=TensorSpec(name="probability", shape=(-1, 1, 172, 172)),
            overlap=32,
        )
        version = registry.register(model, card)
        settings = ModelConfig(model_name=NAME, input_size=(256, 256), batch_size=4)
        root = tmp_path / "model_repository"
        exported = export(f"{NAME}/{version}", root, settings, golden_tiles, profile="cpu")
    finally:
        mlflow.set_tracking_uri(before)
    figures = exported.manifest.figures
    assert max(figures["parity_real_max_abs"], figures["parity_simulated_max_abs"]) < 1e-4

    tiles = golden_tiles(exported.card)["real"]
    with open_sandbox(root) as sandbox, Replica(sandbox.address) as triton:
        triton.load(NAME)
        golden = Repository(root).file(NAME, version, GOLDEN_FILE)
        assert triton.check(exported.card, golden) < 1e-4
        answer = triton.infer(exported.card, tiles)
    expected = model(tiles.transpose(0, 2, 3, 1), training=False).numpy().transpose(0, 3, 1, 2)
    assert answer.shape == (len(tiles), 1, 172, 172)
    assert np.abs(answer - expected).max() < 1e-4


def test_several_inputs_and_outputs_are_exported_and_served(tmp_path):
    """The inputs are the channels of one, and whoever asks Triton can have every output."""
    import keras
    from keras import layers
    from tritonclient.grpc import InferenceServerClient, InferInput

    two = samples.two_inputs()
    flux = layers.Conv2D(2, 3, padding="same", name="flux")(two.inputs[1])
    quality = layers.Dense(3, name="quality")(layers.GlobalAveragePooling2D()(flux))
    model = keras.Model(two.inputs, [flux, two.output, quality])
    channels = TensorSpec(name="image", shape=(-1, 3, samples.SIZE, samples.SIZE))
    card = msgspec.structs.replace(samples.card(), input=channels, planes=("difference",) * 3)
    tiles = np.random.default_rng(1).normal(size=(3, *channels.shape[1:])).astype(np.float32)

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        uri = f"{card.name}/{registry.register(model, card)}"
        settings = ModelConfig(model_name=card.name, input_size=(64, 64), batch_size=4)
        root = tmp_path / "model_repository"
        exported = export(uri, root, settings, lambda _: {"noise": tiles}, profile="cpu")
    finally:
        mlflow.set_tracking_uri(before)
    names = ("noise", "noise_flux", "noise_quality")
    assert all(exported.manifest.figures[f"parity_{name}_max_abs"] < 1e-4 for name in names)

    with open_sandbox(root) as sandbox, Replica(sandbox.address) as triton:
        triton.load(card.name)
        with InferenceServerClient(sandbox.address) as client:
            tensor = InferInput("image", tiles.shape, "FP32")
            tensor.set_data_from_numpy(tiles)
            answer = client.infer(card.name, [tensor])
    given = tiles.transpose(0, 2, 3, 1)
    expected = [one.numpy() for one in model([given[..., :1], given[..., 1:]], training=False)]
    for name, wanted in zip(("flux", "probability", "quality"), expected, strict=True):
        served = answer.as_numpy(name)
        assert np.abs(served - np.moveaxis(wanted, -1, 1)).max() < 1e-4, name
