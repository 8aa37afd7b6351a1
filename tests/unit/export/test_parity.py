import io
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

from astrotriton.detection.quality.golden import TOLERANCE
from astrotriton.detection.scoring.score import prepare
from astrotriton.export import parity
from astrotriton.export.engine import KerasEngine, OnnxEngine
from astrotriton.export.errors import ConversionError, ExportError, ParityError
from tests.unit.export import samples, stamp_models


def compare(model, content, card, tiles):
    source = KerasEngine(model, ["probability"], card)
    return parity.compare(source, OnnxEngine(content, card), card, tiles)


def test_figures_and_golden_tile(model, converted):
    tiles = {"simulated": samples.tiles(5), "real": samples.tiles(2, seed=8)}
    passed = compare(model, converted, samples.card(), tiles)

    assert passed.figures["parity_simulated_tiles"] == 5
    assert 0 < passed.figures["parity_real_max_abs"] < TOLERANCE
    with np.load(io.BytesIO(passed.golden.to_npz())) as golden:
        image, probability = golden["image"], golden["probability"]
    assert image.shape == probability.shape == (1, 1, samples.SIZE, samples.SIZE)
    assert image.dtype == probability.dtype == np.float32
    expected = model(image.transpose(0, 2, 3, 1), training=False).numpy().transpose(0, 3, 1, 2)
    # Keras sums in another order for another batch size.
    assert np.abs(probability - expected).max() < 1e-5
    assert probability.std() > 0.05


def test_tiles_of_a_real_exposure_are_what_scoring_sends():
    sky = 1000.0 + 20.0 * np.random.default_rng(3).normal(size=(150, 200))
    sky[40:44, 60:64] = np.nan
    file = io.BytesIO()
    fits.PrimaryHDU(sky.astype(np.float32)).writeto(file)

    made = prepare(file.getvalue(), samples.card(), []).sample(3)

    tiled = prepare(file.getvalue(), samples.card(), [])
    assert made.dtype == np.float32
    assert made.shape == (3, 1, samples.SIZE, samples.SIZE)
    assert np.array_equal(made[0], tiled.batch(0, 1)[0])
    assert np.array_equal(made[2], tiled.batch(len(tiled) - 1, len(tiled))[0])
    assert np.isfinite(made).all()
    assert len(tiled.sample(99)) == len(tiled)


def test_flat_tiles_are_not_the_golden_one(model, converted):
    tiles = {"flat": np.zeros((2, 1, 64, 64), np.float32), "sky": samples.tiles(1)}
    golden = compare(model, converted, samples.card(), tiles).golden
    assert np.array_equal(golden.image, tiles["sky"])


def test_of_stamps_the_golden_one_is_the_least_decided():
    card = stamp_models.card()
    stamps = np.random.default_rng(1).normal(size=(3, *card.input.shape[1:])).astype(np.float32)
    said = np.float32([0.999, 0.41, 0.002]).reshape(-1, 1, 1, 1)
    engine = SimpleNamespace(outputs=lambda _: {"probability": said})
    golden = parity.compare(engine, engine, card, {"simulated": stamps}).golden
    assert np.array_equal(golden.image, stamps[1:2])
    assert golden.probability.shape == (1, 1, 1, 1)


@pytest.mark.parametrize("by", [0.01, float("nan")])
def test_perturbed_layer_is_refused_with_figures(model, converted, by):
    with pytest.raises(ParityError, match="on sky tiles") as refused:
        compare(model, samples.perturbed(converted, by), samples.card(), {"sky": samples.tiles()})
    assert not refused.value.figures["parity_sky_max_abs"] <= parity.TOLERANCE


def test_keras_answering_nan_is_refused(converted):
    broken = samples.unet()
    weights = broken.get_weights()
    weights[0][:] = np.nan
    broken.set_weights(weights)
    with pytest.raises(ParityError, match="nan"):
        compare(broken, converted, samples.card(), {"sky": samples.tiles()})


def test_file_that_onnx_runtime_cannot_load_is_refused(model):
    with pytest.raises(ConversionError, match="cannot run"):
        compare(model, b"not a model", samples.card(), {"sky": samples.tiles()})


@pytest.mark.parametrize(
    ("tiles", "problem"),
    [
        ({}, "no golden tiles"),
        ({"sky": samples.tiles(1).astype(np.float64)}, "float64"),
        ({"sky": samples.tiles(1)[:, :, :32]}, r"\(1, 1, 32, 64\)"),
        ({"sky": samples.tiles(0)}, "are none"),
        ({"sky": np.full((1, 1, 64, 64), np.nan, np.float32)}, "not numbers"),
    ],
)
def test_unfit_tiles_are_refused(model, converted, tiles, problem):
    with pytest.raises(ExportError, match=problem):
        compare(model, converted, samples.card(), tiles)
