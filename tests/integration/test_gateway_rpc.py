"""The gRPC service: the same answers and refusals as over HTTP."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from astrotriton.gateway.keys import new_key
from astrotriton.gateway.rpc import detections_pb2 as pb
from astrotriton.gateway.rpc.detections_pb2_grpc import DetectionsStub
from astrotriton.gateway.rpc.service import NAME
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.storage.api_keys import insert_key
from tests.integration.gateway_parts import (
    ROOT,
    SOURCES,
    exposure,
    fits_bytes,
    free_port,
    infer,
    npy,
    serve,
)
from tests.integration.mutants import first_seed, mutant


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"grpc_port": free_port()})


@pytest.fixture
async def channel(settings: GatewaySettings, client: httpx.AsyncClient) -> AsyncIterator[Any]:
    options = [("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.grpc_port}", options) as channel:
        yield channel


async def test_the_answer_is_that_of_http(client, channel):
    candidates = [pb.Candidate(id=f"c{i}", x=x, y=y) for i, (x, y) in enumerate(SOURCES)]
    request = pb.InferRequest(
        exposure=npy(exposure()),
        filename="night.npy",
        candidates=pb.Candidates(items=candidates),
        confidence_threshold=0.6,
    )
    answer = await DetectionsStub(channel).Infer(request)
    body = {
        "candidates": [{"id": c.id, "x": c.x, "y": c.y} for c in candidates],
        "confidence_threshold": 0.6,
    }
    http = (await infer(client, npy(exposure()), body)).json()
    assert answer.run.exposure.digest == http["exposure"]["digest"]
    assert answer.run.model.version == http["model"]["version"]
    assert answer.run.threshold == http["threshold"] == 0.6
    assert answer.run.extracted is False
    assert len(answer.detections) == len(http["detections"])
    for ours, theirs in zip(answer.detections, http["detections"], strict=True):
        known = {n: v for n, v in theirs.items() if v is not None and n not in ("id", "flags")}
        assert {name: getattr(ours, name) for name in known} == known
        assert list(ours.flags) == theirs["flags"]
        assert not ours.HasField("ra")
    stored = (await client.get(f"/runs/{answer.run.run_id}")).json()
    assert [d["id"] for d in stored["result"]["detections"]] == [d.id for d in answer.detections]
    written = datetime.fromisoformat(stored["created_at"])
    assert abs((answer.run.created_at.ToDatetime(UTC) - written).total_seconds()) < 0.001


async def test_how_an_exposure_was_taken(client, channel):
    request = pb.InferRequest(
        exposure=npy(exposure()), zero_point=25.0, mjd_mid=60000.5, filter="r", exposure_time=30.0
    )
    answer = await DetectionsStub(channel).Infer(request)
    taken = answer.run.exposure
    assert (taken.mjd_mid, taken.time_scale, taken.filter) == (60000.5, "UTC", "r")
    assert taken.observed_at.ToDatetime(UTC) == datetime(2023, 2, 25, 12, tzinfo=UTC)
    assert (taken.zero_point, taken.zero_point_source) == (25.0, "request")
    assert not taken.HasField("flux_unit")
    best = answer.detections[0]
    assert best.mag == pytest.approx(25.0 - 2.5 * np.log10(best.flux))
    assert answer.run.image.limiting_magnitude > best.mag


async def test_a_candidate_that_lies_nowhere_comes_back_unscored(client, channel):
    given = {
        "here": pb.Candidate(id="here", x=SOURCES[0][0], y=SOURCES[0][1]),
        "off": pb.Candidate(id="off", x=999, y=1),
        "nan": pb.Candidate(id="nan", x=float("nan"), y=0.0),
        "sky": pb.Candidate(id="sky", ra=1.0, dec=2.0),
    }
    request = pb.InferRequest(
        exposure=npy(exposure()), candidates=pb.Candidates(items=given.values())
    )
    answer = await DetectionsStub(channel).Infer(request)
    found = {one.candidate_id: one for one in answer.detections}
    reasons = {name: found[name].unscored_reason for name in given}
    assert reasons == {"here": "", "off": "off_image", "nan": "not_a_number", "sky": "no_wcs"}
    assert found["here"].is_real
    assert (found["off"].x, found["off"].y) == (999.0, 1.0)
    assert not found["nan"].HasField("x")
    table = b"id,XWIN_IMAGE,YWIN_IMAGE\nhere,%f,%f\n" % (SOURCES[0][0] + 1, SOURCES[0][1] + 1)
    request = pb.InferRequest(exposure=npy(exposure()), candidates_table=table)
    answer = await DetectionsStub(channel).Infer(request)
    again = next(one for one in answer.detections if one.candidate_id == "here")
    assert (again.x, again.y) == (found["here"].x, found["here"].y)


def psf_image(fwhm: float) -> np.ndarray:
    y, x = np.mgrid[-15:16, -15:16]
    return np.exp(-4.0 * np.log(2.0) * (x**2 + y**2) / fwhm**2).astype(np.float32)


async def test_who_says_the_seeing_and_the_noise(client, channel):
    """Over HTTP and gRPC, answered, stored, and answered again."""
    weight = np.full(exposure().shape, 0.25, np.float32)
    weight[:, ::2] = 0.3
    stated = {"seeing_fwhm": 4.4, "seeing_unit": "px"}
    for files, request, source, fwhm in (
        ({}, stated, "request", 4.4),
        ({"psf": npy(psf_image(3.6))}, {}, "psf", 3.6),
        ({"psf": npy(psf_image(3.6))}, stated, "request", 4.4),
        ({"weight": npy(weight)}, stated | {"weight_type": "variance"}, "request", 4.4),
    ):
        response = await client.post(
            "/detections/infer",
            files={
                "exposure": npy(exposure()),
                "request": (None, json.dumps(request), "application/json"),
                **files,
            },
        )
        assert response.status_code == 200, response.text
        image = response.json()["image"]
        assert image["seeing_source"] == source
        assert image["seeing_fwhm"] == pytest.approx(fwhm, rel=0.03)
        assert "seeing_assumed" not in response.json()["flags"]
        stored = (await client.get(f"/runs/{response.json()['run_id']}")).json()["result"]
        assert stored["image"] == image
        message = pb.InferRequest(exposure=npy(exposure()), **files, **request)
        run = (await DetectionsStub(channel).Infer(message)).run
        assert run.image.seeing_source == source
        assert run.image.seeing_fwhm == image["seeing_fwhm"]
        assert run.image.noise == image["noise"]
    for files, request, field in (
        ({}, {"seeing_fwhm": 0.2}, "seeing_fwhm"),
        ({}, {"seeing_fwhm": 1.0, "seeing_unit": "arcsec"}, "seeing_fwhm"),
        ({}, {"seeing_unit": "px"}, "seeing_unit"),
        ({}, {"weight_type": "sigma"}, "weight_type"),
        ({"psf": npy(np.zeros((9, 9)))}, {}, "psf"),
        ({"psf": b"rubbish"}, {}, "psf"),
    ):
        response = await client.post(
            "/detections/infer",
            files={
                "exposure": npy(exposure()),
                "request": (None, json.dumps(request), "application/json"),
                **files,
            },
        )
        assert response.status_code == 422, response.text
        assert response.json()["field"] == field


async def test_a_stream_tells_progress_and_sends_the_detections(client, channel):
    request = pb.InferRequest(exposure=npy(exposure()))
    events = [event async for event in DetectionsStub(channel).InferStream(request)]
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds[0] == "progress"
    assert kinds.index("run") == len(kinds) - 1 - kinds.count("part")
    run = next(event.run for event in events if event.WhichOneof("event") == "run")
    found = [d.id for event in events for d in event.part.detections]
    stored = (await client.get(f"/runs/{run.run_id}")).json()["result"]
    assert found == [d["id"] for d in stored["detections"]]


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "exposure"),
    "not FITS": ({"exposure": b"hello"}, "exposure"),
    "1-D": ({"exposure": npy(np.zeros(9))}, "exposure"),
    "too large": ({"exposure": bytes(4_000_001)}, "exposure"),
    "no y": ({"candidates": pb.Candidates(items=[pb.Candidate(x=1)])}, "candidates[0].y"),
    "Julian date": ({"mjd_mid": 2458334.75}, "mjd_mid"),
    "NaN zero point": ({"zero_point": float("nan")}, "zero_point"),
    "no table": ({"candidates_table": b"a,b\n1,2\n"}, "candidates_table"),
    "threshold": ({"confidence_threshold": 2.0}, "confidence_threshold"),
    "NaN threshold": ({"confidence_threshold": float("nan")}, "confidence_threshold"),
    "threshold and rate": (
        {"confidence_threshold": 0.5, "max_false_discovery_rate": 0.1},
        "confidence_threshold",
    ),
    "version": ({"model_version": pb.Model(alias="best")}, "model_version"),
    "unknown version": ({"model_version": pb.Model(version=9)}, "model_version"),
    "letters": ({"exposure": fits_bytes(exposure()), "hdu": pb.Hdu(name="Ωμέγα")}, "hdu"),
    "no such HDU": ({"exposure": fits_bytes(exposure()), "hdu": pb.Hdu(index=4)}, "hdu"),
    "mask": ({"mask": npy(np.zeros((3, 3)))}, "mask"),
    "seeing": ({"seeing_fwhm": 0.1}, "seeing_fwhm"),
    "seeing without a WCS": ({"seeing_fwhm": 1.0, "seeing_unit": "arcsec"}, "seeing_fwhm"),
    "unit": ({"seeing_fwhm": 4.0, "seeing_unit": "deg"}, "seeing_unit"),
    "unit alone": ({"seeing_unit": "px"}, "seeing_unit"),
    "kind of weights": ({"weight_type": "rms"}, "weight_type"),
    "PSF": ({"psf": npy(np.zeros((9, 9)))}, "psf"),
    "NUL": ({"exposure_id": "a\0"}, "exposure_id"),
}


async def refusal(stub: DetectionsStub, request: pb.InferRequest, streaming: bool) -> Any:
    async def ask() -> None:
        if streaming:
            async for _ in stub.InferStream(request):
                pass
        else:
            await stub.Infer(request)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask()
    return caught.value


async def test_bad_input_is_refused_by_name(channel):
    stub = DetectionsStub(channel)
    for name, (fields, field) in BAD.items():
        given = fields if name == "nothing" else {"exposure": npy(exposure())} | fields
        for streaming in (False, True):
            error = await refusal(stub, pb.InferRequest(**given), streaming)
            assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, (name, error.details())
            problem = json.loads(dict(error.trailing_metadata())["problem"])
            assert problem["field"] == field, name
            assert problem["detail"] == error.details()


@pytest.mark.hostile
async def test_broken_files_are_scored_or_refused(client, channel, capsys):
    stub = DetectionsStub(channel)
    outcomes: Counter[str] = Counter()
    unexpected = []

    async def send(seeds: range) -> None:
        for seed in seeds:
            # Every part may be broken, and is sent to both methods in turn.
            part = ("exposure", "mask", "weight", "psf")[seed // 2 % 4]
            request = pb.InferRequest(**{"exposure": npy(exposure()), part: mutant(seed)})
            try:
                if seed % 2:
                    await stub.Infer(request)
                else:
                    async for _ in stub.InferStream(request):
                        pass
                outcomes["OK"] += 1
            except grpc.aio.AioRpcError as error:
                outcomes[error.code().name] += 1
                if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                    unexpected.append(f"seed {seed}: {error.code()} {error.details()}")

    # Seeds that no other test tries.
    begin = first_seed() + 10_000
    await asyncio.gather(send(range(begin, begin + 200)), send(range(begin + 200, begin + 400)))
    with capsys.disabled():
        print(
            f"\n400 broken files over gRPC from seed {begin} on"
            f" (ASTROTRITON_TEST_SEED={first_seed()} repeats them): {dict(outcomes)}"
        )
    assert outcomes["OK"]
    assert unexpected == []


async def test_bytes_that_are_no_message_are_refused(channel):
    good = pb.InferRequest(exposure=npy(exposure()), filename="a").SerializeToString()
    broken = [b"\xff", b"\x0a", good[:-1], good[1:], b"\x12\x02\xff\xfe" + good, b"\x08\x01"]
    for method, ask in (("Infer", channel.unary_unary), ("InferStream", channel.unary_stream)):
        for content in broken:
            call = ask(f"/{NAME}/{method}")(content)
            assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT, (method, content[:9])


async def test_a_key_gets_the_first_answer_again(channel):
    request = pb.InferRequest(exposure=npy(exposure()))
    metadata = [("idempotency-key", "night-1")]
    first = await DetectionsStub(channel).Infer(request, metadata=metadata)
    assert await DetectionsStub(channel).Infer(request, metadata=metadata) == first


async def test_a_deadline_ends_the_work(channel):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await DetectionsStub(channel).Infer(pb.InferRequest(exposure=npy(exposure())), timeout=0.01)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_triton_down_is_unavailable(settings):
    away = settings.model_copy(update={"triton_grpc": f"127.0.0.1:{free_port()}"})
    options = [("grpc.enable_http_proxy", 0)]
    async with (
        serve(away),
        grpc.aio.insecure_channel(f"127.0.0.1:{away.grpc_port}", options) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await DetectionsStub(channel).Infer(pb.InferRequest(exposure=npy(exposure())))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert int(dict(caught.value.trailing_metadata())["retry-after"]) > 0


async def test_only_callers_with_the_scope_get_in(settings):
    guarded = settings.model_copy(update={"auth": "required"})
    reader, inference = new_key("reader", ["read"]), new_key("scorer", ["infer"])
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    await insert_key(connection, reader)
    await insert_key(connection, inference)
    await connection.close()
    options = [("grpc.enable_http_proxy", 0)]
    async with (
        serve(guarded),
        grpc.aio.insecure_channel(f"127.0.0.1:{guarded.grpc_port}", options) as channel,
    ):
        request = pb.InferRequest(exposure=npy(exposure()))
        for token, code in (
            (None, grpc.StatusCode.UNAUTHENTICATED),
            ("at_nonsense", grpc.StatusCode.UNAUTHENTICATED),
            (reader.token, grpc.StatusCode.PERMISSION_DENIED),
            (inference.token, grpc.StatusCode.OK),
        ):
            metadata = [] if token is None else [("authorization", f"Bearer {token}")]
            call = DetectionsStub(channel).Infer(request, metadata=metadata)
            assert await call.code() is code, (token, await call.details())


async def test_health_and_reflection(settings, client, channel):
    stub = health_pb2_grpc.HealthStub(channel)
    async with asyncio.timeout(30):
        async for answer in stub.Watch(health_pb2.HealthCheckRequest(service=NAME)):
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                break
    code = (
        "import grpc, sys\n"
        "from google.protobuf.descriptor_pool import DescriptorPool\n"
        "from grpc_reflection.v1alpha.proto_reflection_descriptor_database import"
        " ProtoReflectionDescriptorDatabase as D\n"
        "c = grpc.insecure_channel(sys.argv[1], [('grpc.enable_http_proxy', 0)])\n"
        "d = D(c); print(*d.get_services())\n"
        f"s = DescriptorPool(d).FindServiceByName({NAME!r}); print(*[m.name for m in s.methods])\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, f"127.0.0.1:{settings.grpc_port}", stdout=subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert NAME in out.decode()
    assert "Infer InferStream" in out.decode()


def test_the_generated_modules_are_of_the_definition(tmp_path: Path):
    (tmp_path / "astrotriton/gateway/rpc").mkdir(parents=True)
    command = [
        "-m",
        "grpc_tools.protoc",
        f"-Iastrotriton/gateway/rpc={ROOT / 'proto/astrotriton/v1'}",
    ]
    command += [f"--{kind}_out=." for kind in ("python", "pyi", "grpc_python")]
    subprocess.run(
        [sys.executable, *command, "astrotriton/gateway/rpc/detections.proto"],
        cwd=tmp_path,
        check=True,
    )
    for made in sorted((tmp_path / "astrotriton/gateway/rpc").iterdir()):
        assert made.read_text() == (ROOT / "astrotriton/gateway/rpc" / made.name).read_text(), (
            made.name
        )
