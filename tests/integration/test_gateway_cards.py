"""A gateway that reads model cards and golden tiles from an S3 store, as Triton does there."""

from pathlib import Path

import obstore
import pytest

from astrotriton.gateway.settings import GatewaySettings
from astrotriton.objects import Objects
from tests.integration.gateway_parts import (
    NAME,
    ObjectStoreServer,
    exposure,
    infer,
    npy,
    serve,
)

BUCKET, PREFIX = "published", "of/the/night"


@pytest.fixture(scope="module")
def bucket(object_store: ObjectStoreServer, model_repository: Path) -> Objects:
    """A bucket of the store, to which the model repository was copied."""
    bucket = object_store.bucket(BUCKET)
    for path in model_repository.rglob("*"):
        if path.is_file():
            key = f"{PREFIX}/{path.relative_to(model_repository)}"
            obstore.put(bucket, key, path.read_bytes())
    return bucket


@pytest.fixture
def in_store(
    settings: GatewaySettings,
    object_store: ObjectStoreServer,
    bucket: Objects,
    monkeypatch: pytest.MonkeyPatch,
) -> GatewaySettings:
    """Settings of a gateway that has no folder of models."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_key)
    return settings.model_copy(
        update={
            "model_repository": f"s3://{BUCKET}/{PREFIX}/",
            "s3_endpoint": object_store.url,
            "s3_region": "us-east-1",
        }
    )


async def test_card_and_golden_tile_come_from_the_store(settings, in_store):
    models = []
    for one in (settings, in_store):
        async with serve(one) as client:
            assert (await client.get("/health/ready")).status_code == 200
            scored = await infer(client, npy(exposure()))
            assert scored.status_code == 200, scored.text
            models.append(scored.json()["model"])
            # Nor may a caller read from the bucket because the gateway does.
            asked = {"exposure": f"s3://{BUCKET}/{PREFIX}/{NAME}/3/golden.npz"}
            refused = await client.post("/detections/infer", json=asked)
            assert refused.json()["type"].endswith("bucket-not-allowed")
    assert models[0] == models[1]


@pytest.mark.parametrize("file", ["golden.npz", "card.json"])
@pytest.mark.parametrize("damage", ["changed", "missing"])
async def test_what_is_not_as_exported_is_not_served(in_store, bucket, file, damage):
    key = f"{PREFIX}/{NAME}/3/{file}"
    kept = bytes(obstore.get(bucket, key).bytes())
    try:
        if damage == "changed":
            obstore.put(bucket, key, kept[:-1] + bytes([kept[-1] ^ 1]))
        else:
            obstore.delete(bucket, key)
        async with serve(in_store) as client:
            answer = await infer(client, npy(exposure()))
            assert answer.status_code == 503
            assert answer.json()["dependency"] == "model_repository"
            assert file.split(".")[0] in answer.json()["detail"]
            assert (await client.get("/health/ready")).status_code == 503
    finally:
        obstore.put(bucket, key, kept)


async def test_store_that_does_not_answer_is_named(in_store):
    nowhere = in_store.model_copy(update={"s3_endpoint": "http://127.0.0.1:1"})
    async with serve(nowhere) as client:
        answer = await infer(client, npy(exposure()))
    assert answer.status_code == 503
    assert answer.json()["dependency"] == "s3"
