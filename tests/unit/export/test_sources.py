"""What is refused before a model is loaded, which takes TensorFlow and a while."""

import msgspec
import pytest

from astrotriton.detection.card import TensorSpec
from astrotriton.detection.quality.golden import GOLDEN_FILE
from astrotriton.export import digests, registry, sources
from astrotriton.export.errors import ConversionError
from astrotriton.export.registry import RegisteredVersion
from astrotriton.export.repository import Repository
from astrotriton.settings import ModelConfig
from tests.unit.export import samples, stamp_models

NAME = "net"
SETTINGS = ModelConfig(model_name=NAME, input_size=(64, 64), batch_size=8, enable_gpu=False)


class LoadedError(Exception):
    """It went as far as to load the model."""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Begins to load version 2, with a card, beside version 1 with another."""

    def load(card, beside):
        repository = Repository(tmp_path)
        files = {"model.onnx": b"graph", GOLDEN_FILE: b"tile"}
        found = {name: digests.of_bytes(content) for name, content in files.items()}
        there = msgspec.structs.replace(beside, name=NAME, version=1, digests=found)
        repository.publish(there, files)
        registered = RegisteredVersion(
            name=NAME, version=2, run_id="r", digest=None, manifest_digest=None
        )
        said = msgspec.structs.replace(card, name=NAME, version=2)

        def loaded(_):
            raise LoadedError

        monkeypatch.setattr(registry, "load_card", lambda _: said)
        monkeypatch.setattr(registry, "load_keras", loaded)
        sources.under_test(
            registered,
            repository,
            SETTINGS,
            lambda _: {},
            published=None,
            champion=1,
            trial=None,
            profile="cpu",
            precision="fp32",
            on_progress=lambda _: None,
            converter=None,
        )

    return load


def unet(channels=1, output="probability"):
    return msgspec.structs.replace(
        samples.card(),
        planes=("difference",) * channels,
        input=TensorSpec(name="image", shape=(-1, channels, 64, 64)),
        output=TensorSpec(name=output, shape=(-1, 1, 64, 64)),
    )


def stamps(size=63):
    spec = TensorSpec(name="triplet", shape=(-1, 1, size, size))
    return stamp_models.card(input=spec)


@pytest.mark.parametrize(
    ("card", "beside", "told"),
    [
        (
            stamps(),
            unet(),
            r"takes triplet \[1, 63, 63\] and gives probability \[1, 1, 1\], and version 1, which"
            r" is published, takes image \[1, 64, 64\] and gives probability \[1, 64, 64\]",
        ),
        (unet(), stamps(), r"takes image \[1, 64, 64\]"),
        (stamps(31), stamps(63), r"takes triplet \[1, 31, 31\]"),
        (unet(3), unet(), r"takes image \[3, 64, 64\]"),
        (unet(output="mask"), unet(), r"gives mask \[1, 64, 64\]"),
    ],
)
def test_versions_that_triton_cannot_serve_together_are_refused(load, card, beside, told):
    with pytest.raises(ConversionError, match=told) as refused:
        load(card, beside)
    assert "register this one under another name" in str(refused.value)


def test_versions_that_take_and_give_the_same_are_loaded(load):
    with pytest.raises(LoadedError):
        load(unet(), unet())


def test_tiles_of_another_size_than_the_setting_are_refused(load):
    large = msgspec.structs.replace(
        unet(),
        input=TensorSpec(name="image", shape=(-1, 1, 128, 128)),
        output=TensorSpec(name="probability", shape=(-1, 1, 128, 128)),
    )
    with pytest.raises(Exception, match=r"set\s+ASTROTRITON_INPUT_SIZE='\[128, 128\]'"):
        load(large, unet())
