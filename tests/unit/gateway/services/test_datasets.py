"""Labelled exposures: what travels with a version, what lies under a prefix, what MLflow names."""

import io
import json

import numpy as np
import pytest

from astrotriton.detection.errors import InputError
from astrotriton.detection.quality.labelled import LabelledField, ValidationSet
from astrotriton.detection.quality.transients import Transients
from astrotriton.gateway.services.datasets import Datasets, source_of
from tests.unit.gateway.services.stand_ins import (
    Objects,
    ReadHere,
    exposure,
    model_service,
    network,
    publish,
)

PREFIX = "s3://nights/labelled"
TRUTH = {
    "description": "a good night",
    "fields": [
        {"file": "a.npy", "transients": [{"x": 3.0, "y": 4.0, "snr": 9.0}]},
        {"file": "b.fits", "transients": [], "hdu": "SCI"},
    ],
}


async def unasked(run_id: str, name: str) -> str:
    raise AssertionError("MLflow was asked")


@pytest.fixture
def objects() -> Objects:
    return Objects(
        {
            f"{PREFIX}/truth.json": json.dumps(TRUTH).encode(),
            f"{PREFIX}/a.npy": exposure(),
            f"{PREFIX}/b.fits": b"SIMPLE",
        }
    )


def datasets(models, objects, find_input=unasked) -> Datasets:
    return Datasets(models, objects, 1_000_000, find_input, ReadHere())


async def test_a_prefix_has_exposures_and_their_truth(models, objects):
    found = await datasets(models, objects).open(f"{PREFIX}/", 3)
    assert (found.description, found.source) == ("a good night", PREFIX)
    one, other = found.exposures
    assert (one.name, one.hdu, other.hdu) == ("a.npy", None, "SCI")
    np.testing.assert_array_equal(one.truth.positions, [[3.0, 4.0]])
    np.testing.assert_array_equal(one.truth.snr, [9.0])
    np.testing.assert_array_equal(one.truth.polarity, [1])
    assert other.truth.positions.shape == (0, 2)
    assert await other.read() == b"SIMPLE"


async def test_an_exposure_may_have_the_images_that_it_was_made_of(models, objects):
    first = {**TRUTH["fields"][0], "science": "science.npy", "template": "old.fits"}
    second = {**TRUTH["fields"][1], "science_hdu": "SCIENCE"}
    fields = [{**first, "template_hdu": 2}, second]
    objects.content |= {
        f"{PREFIX}/truth.json": json.dumps({"fields": fields}).encode(),
        f"{PREFIX}/science.npy": b"new",
        f"{PREFIX}/old.fits": b"old",
    }
    one, other = (await datasets(models, objects).open(PREFIX, 3)).exposures
    whole = await one.submission({"science", "template"})
    assert (whole.filename, whole.science, whole.template) == ("a.npy", b"new", b"old")
    assert (whole.request.science_hdu, whole.request.template_hdu) == (None, 2)
    without = await one.submission({"science"})
    assert (without.science, without.template, without.request.template_hdu) == (b"new", None, None)
    inside = await other.submission({"science", "template"})
    assert (inside.content, inside.science, inside.request.hdu) == (b"SIMPLE", None, "SCI")
    assert inside.request.science_hdu == "SCIENCE"


async def test_the_digest_is_that_of_the_truth(models, objects):
    before = (await datasets(models, objects).open(PREFIX, 3)).digest
    assert before == (await datasets(models, objects).open(PREFIX, 3)).digest
    objects.content[f"{PREFIX}/truth.json"] += b" "
    assert before != (await datasets(models, objects).open(PREFIX, 3)).digest


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"truth.json": None}, "truth.json", "no-truth"),
        ({"a.npy": None}, "a.npy", "no-such-object"),
        ({"stray.npy": b"x"}, "stray.npy", "no-truth"),
        ({"truth.json": b'{"fields": [{"file": "a.npy", "science": "c.npy", "transients":'
          b' [{"x": 1, "y": 1, "snr": 9}]}]}'}, "c.npy", "no-such-object"),
        ({"truth.json": b"\xff"}, "truth.json", "bad-truth"),
        ({"truth.json": b"[" * 10_000}, "truth.json", "bad-truth"),
        ({"truth.json": b'{"fields": []}'}, "truth.json", "bad-truth"),
        ({"truth.json": b'{"fields": [{"file": "../a.npy", "transients": []}]}'}, "truth.json",
         "bad-truth"),
        ({"truth.json": b'{"fields": [{"file": "a.npy", "transients": []},'
          b' {"file": "b.fits", "transients": []}]}'}, "truth.json", "no-truth"),
    ],
)  # fmt: skip
async def test_a_set_that_cannot_be_used_names_the_file(models, objects, change, field, code):
    for name, content in change.items():
        objects.content.pop(f"{PREFIX}/{name}", None)
        if content is not None:
            objects.content[f"{PREFIX}/{name}"] = content
    with pytest.raises(InputError) as refused:
        await datasets(models, objects).open(PREFIX, 3)
    assert (refused.value.field, refused.value.code) == (field, code)


async def test_mlflow_says_where_a_set_lies(models, objects):
    asked = []

    async def find(run_id: str, name: str) -> str:
        asked.append((run_id, name))
        return PREFIX

    found = await datasets(models, objects, find).open(f"runs:/{'a' * 32}/night 7", 3)
    assert found.source == PREFIX
    assert asked == [("a" * 32, "night 7")]


async def test_the_default_travels_with_the_version(triton, tmp_path, objects):
    image = np.load(io.BytesIO(exposure((60.0, 50.0))))
    truth = Transients.of(np.array([[60.0, 50.0]]), np.array([30.0]))
    field = LabelledField(image, truth, {"science": image + np.float32(100.0)})
    files = {"validation.fits": ValidationSet([field], "one field").to_fits()}
    publish(tmp_path, 3, network(), files=files)
    publish(tmp_path, 4, network())
    publish(tmp_path, 5, network(), files={"validation.fits": b"none"})
    opened = datasets(model_service(tmp_path, triton), objects)
    found = await opened.open("default", 3)
    assert found.description == "one field"
    (one,) = found.exposures
    np.testing.assert_allclose(one.truth.positions, [[60.0, 50.0]])
    assert np.load(io.BytesIO(await one.read())).shape == image.shape
    sent = await one.submission({"science", "template"})
    assert np.load(io.BytesIO(sent.science)).shape == image.shape
    assert sent.template is None
    for version, code in ((4, "no-dataset"), (5, "bad-dataset")):
        with pytest.raises(InputError) as refused:
            await opened.open("default", version)
        assert (refused.value.field, refused.value.code) == ("validation.fits", code)


@pytest.mark.parametrize("key", ["uri", "path", "url"])
def test_an_input_of_a_run_is_an_address(key):
    assert source_of([("night", json.dumps({key: PREFIX}))], "run", "night") == PREFIX


@pytest.mark.parametrize(
    ("inputs", "code"),
    [
        ([("other", "{}")], "no-such-dataset"),
        ([("night", "{}")], "bad-dataset"),
        ([("night", "not JSON")], "bad-dataset"),
        ([("night", "[]")], "bad-dataset"),
        ([("night", '{"uri": "file:///etc/passwd"}')], "bad-dataset"),
    ],
)
def test_an_input_that_lies_elsewhere_is_refused(inputs, code):
    with pytest.raises(InputError) as refused:
        source_of(inputs, "run", "night")
    assert refused.value.code == code
