"""What is known of a version: its card, its golden tile, and what travels along."""

import json
from pathlib import Path

import pytest

from astrotriton.gateway.errors import DependencyError, ModelNotServedError
from astrotriton.gateway.services.models import ModelFiles
from tests.unit.gateway.services.stand_ins import (
    NAME,
    Objects,
    Server,
    Tritons,
    model_service,
    network,
    publish,
)


async def test_a_version_is_read_once_and_known_by_its_card(models, folder, triton):
    model = await models.get(3)
    assert (model.ref.name, model.ref.version) == (NAME, 3)
    assert model.ref.digest == model.card.digests["model.onnx"]
    assert model is await models.get(3)
    # Replicas agree without asking each other.
    assert (await model_service(folder, triton).get(3)).id == model.id
    assert (await models.get(4)).id != model.id


async def test_the_oldest_are_forgotten(triton, tmp_path):
    for version in range(1, 11):
        publish(tmp_path, version, network())
    models = model_service(tmp_path, triton)
    first = await models.get(1)
    for version in range(2, 11):
        await models.get(version)
    assert await models.get(10) is await models.get(10)
    assert await models.get(1) is not first


def spoil(path: Path, how: str) -> None:
    card = json.loads(path.with_name("card.json").read_bytes())
    if how == "missing":
        path.unlink()
    elif how == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    elif how == "of another version":
        path.with_name("card.json").write_text(json.dumps(card | {"version": 9}))
    elif how == "without a digest":
        path.with_name("card.json").write_text(json.dumps(card | {"digests": {}}))


@pytest.mark.parametrize(
    ("file", "how"),
    [
        ("golden.npz", "missing"),
        ("golden.npz", "changed"),
        ("card.json", "missing"),
        ("card.json", "changed"),
        ("card.json", "of another version"),
        ("card.json", "without a digest"),
    ],
)
async def test_what_is_not_as_exported_is_not_known(triton, tmp_path, file, how):
    publish(tmp_path, 3, network())
    spoil(tmp_path / NAME / "3" / file, how)
    with pytest.raises(DependencyError) as refused:
        await model_service(tmp_path, triton).get(3)
    assert refused.value.dependency == "model_repository"


async def test_what_travels_along_is_the_file_that_the_card_names(triton, tmp_path):
    publish(tmp_path, 3, network(), files={"validation.fits": b"fields"})
    models = model_service(tmp_path, triton)
    assert await models.file(3, "validation.fits") == b"fields"
    assert await models.file(3, "baseline.npz") is None
    (tmp_path / NAME / "3" / "validation.fits").write_bytes(b"others")
    with pytest.raises(DependencyError, match="not the file that"):
        await models.file(3, "validation.fits")


async def test_files_may_lie_in_a_bucket(folder):
    card = (folder / NAME / "3" / "card.json").read_bytes()
    objects = Objects({f"s3://models/there/{NAME}/3/card.json": card})
    files = ModelFiles("s3://models/there/", objects)
    assert await files.read(NAME, 3, "card.json") == card
    with pytest.raises(DependencyError, match=r"golden\.npz cannot be read"):
        await files.read(NAME, 3, "golden.npz")


async def test_versions_are_those_that_triton_serves(models, folder, triton):
    assert await models.served_versions() == [3, 4]
    assert await models.configured_version() == 4
    assert await model_service(folder, triton, model_version="3").configured_version() == 3
    with pytest.raises(ModelNotServedError, match=r"version 9 .* only \[3, 4\]"):
        await model_service(folder, triton, model_version="9").configured_version()
    with pytest.raises(ModelNotServedError, match="no version of the model 'other'"):
        await model_service(folder, triton, model_name="other").served_versions()
    triton.away = True
    with pytest.raises(DependencyError):
        await models.served_versions()


async def test_every_server_proves_a_version(models, triton):
    wrong, away = Server("wrong:8001", off=2e-4), Server("away:8001", away=True)
    triton.servers += [wrong, away]
    good, bad, silent = await models.prove(await models.get(3))
    assert good.good
    assert "within 0" in good.detail
    assert (bad.replica, bad.good) == (wrong, False)
    assert "wrong, by 0.0002" in bad.detail
    assert (silent.replica, silent.good) == (away, False)
    assert silent.detail == "triton: it does not answer"


async def test_an_answer_that_is_no_number_proves_nothing(folder):
    triton = Tritons({3: lambda tiles: tiles * float("nan")})
    models = model_service(folder, triton)
    (proof,) = await models.prove(await models.get(3))
    assert not proof.good
