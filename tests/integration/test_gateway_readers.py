"""Whichever way a file comes, a reader reads it and the gateway does not."""

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import obstore
import pytest
from astropy.io import fits

from astrotriton.detection.image import exposure as exposures
from astrotriton.detection.sources import candidate_tables
from astrotriton.gateway.readers.process import ForkServer
from astrotriton.gateway.rpc import detections_pb2 as pb
from astrotriton.gateway.rpc.detections_pb2_grpc import DetectionsStub
from astrotriton.gateway.settings import GatewaySettings
from tests.integration.gateway_parts import (
    FORK_SERVER,
    SOURCES,
    ObjectStoreServer,
    exposure,
    fits_bytes,
    free_port,
    infer,
    npy,
    serve,
)
from tests.integration.mutants import unsafe

OPTIONS = [("grpc.enable_http_proxy", 0)]
GOOD = fits_bytes(exposure())
MASK, PLANE = npy(np.zeros((256, 240), np.uint8)), npy(np.ones((256, 240), np.float32))
UNENDED = ("queued", "running")
TABLE = b"id,X_IMAGE,Y_IMAGE\none,%f,%f\n" % (SOURCES[0][0] + 1, SOURCES[0][1] + 1)


@pytest.fixture
async def settings(
    settings: GatewaySettings, object_store: ObjectStoreServer, monkeypatch: pytest.MonkeyPatch
) -> GatewaySettings:
    """Of a gateway with gRPC that may read the bucket `sent`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_key)
    bucket = object_store.bucket("sent")
    for name, content in (
        ("good", GOOD),
        ("plane", PLANE),
        ("table", TABLE),
        ("unsafe", unsafe()),
    ):
        obstore.put(bucket, name, content)
    may = {"s3_buckets": ["sent"], "s3_endpoint": object_store.url, "s3_region": "us-east-1"}
    return settings.model_copy(update=may | {"grpc_port": free_port()})


@pytest.fixture
async def stub(settings: GatewaySettings, client: httpx.AsyncClient) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.grpc_port}", OPTIONS) as channel:
        yield DetectionsStub(channel)


def pieces(content: bytes) -> Iterator[pb.InferRequest]:
    for start in range(0, len(content), 5000):
        yield pb.InferRequest(exposure=content[start : start + 5000])


async def events(call: Any) -> list[Any]:
    return [event async for event in call]


async def refused(call: Any) -> dict[str, Any]:
    """The problem that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return json.loads(dict(caught.value.trailing_metadata())["problem"])


async def ended(client: httpx.AsyncClient, run_id: str) -> dict[str, Any]:
    """A run in the background, once it has ended."""
    async with asyncio.timeout(60):
        while (run := (await client.get(f"/runs/{run_id}")).json())["status"] in UNENDED:
            await asyncio.sleep(0.05)
    return run


async def test_the_gateway_parses_no_file_itself(client, stub, monkeypatch):
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a file is read in the gateway")

    # Before any file is looked into, either of these is called; readers are other processes.
    for module, name in (
        (exposures, "decompressed"),
        (candidate_tables, "decompressed"),
        (fits, "open"),
    ):
        monkeypatch.setattr(module, name, never)
    parts = {
        "exposure": GOOD,
        "mask": MASK,
        "weight": PLANE,
        "candidates": TABLE,
    }
    named = {
        "exposure": "s3://sent/good",
        "weight": "s3://sent/plane",
        "candidates_table": "s3://sent/table",
    }
    for answer in (
        await client.post("/detections/infer", files=parts),
        await client.post("/detections/infer", json=named),
        await client.post("/detections/infer-by-reference", json=named),
    ):
        assert answer.status_code == 200, answer.text
        assert "one" in {found["candidate_id"] for found in answer.json()["detections"]}
    asked = pb.InferRequest(exposure=GOOD, weight=PLANE, candidates_table=TABLE)
    assert (await stub.Infer(asked)).detections
    assert await events(stub.InferStream(asked))
    assert await events(stub.InferUpload(pieces(GOOD)))


async def test_a_file_that_ends_its_reader_is_named_whichever_way_it_comes(client, stub):
    bad, packed = unsafe(), gzip.compress(unsafe(), mtime=0)
    later = await client.post(
        "/detections/infer", files={"exposure": bad}, headers={"Prefer": "respond-async"}
    )
    assert later.status_code == 202
    run = await ended(client, later.json()["run_id"])
    assert run["status"] == "failed"
    problems = [
        (bad, "exposure", (await infer(client, bad)).json()),
        (packed, "exposure", (await infer(client, packed)).json()),
        (bad, "exposure", run["problem"]),
        (bad, "exposure", await refused(stub.Infer(pb.InferRequest(exposure=bad)))),
        (bad, "psf", await refused(stub.Infer(pb.InferRequest(exposure=GOOD, psf=bad)))),
        (bad, "exposure", await refused(events(stub.InferStream(pb.InferRequest(exposure=bad))))),
        (bad, "exposure", await refused(events(stub.InferUpload(pieces(bad))))),
    ]
    for plane in ("mask", "weight", "psf"):
        sent = await client.post("/detections/infer", files={"exposure": GOOD, plane: bad})
        problems.append((bad, plane, sent.json()))
    for named in ({"exposure": "unsafe"}, {"exposure": "good", "weight": "unsafe"}):
        urls = {field: f"s3://sent/{name}" for field, name in named.items()}
        sent = await client.post("/detections/infer-by-reference", json=urls)
        problems.append((bad, [*named][-1], sent.json()))
    for content, field, problem in problems:
        assert (problem["status"], problem["field"]) == (422, field), problem
        assert problem["type"].endswith(":unsafe-file"), problem
        assert hashlib.sha256(content).hexdigest() in problem["detail"]
    assert (await infer(client, GOOD)).status_code == 200


async def test_without_readers_callers_are_told_to_come_back(settings, monkeypatch):
    def fork(self: ForkServer, how: object) -> None:
        raise OSError("no more processes")

    with monkeypatch.context() as patched:
        patched.setattr(ForkServer, "fork", fork)
        async with serve(settings) as client:
            answer = await infer(client, GOOD)
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.json()["dependency"] == "readers"
            assert "no more processes" in answer.json()["detail"]
            patched.undo()
            assert (await infer(client, GOOD)).status_code == 200
    assert FORK_SERVER.pid is not None
