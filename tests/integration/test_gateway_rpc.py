"""The gRPC service: the same answers and refusals as over HTTP."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from astrotriton.gateway.keys import new_key
from astrotriton.gateway.rpc import detections_pb2 as pb
from astrotriton.gateway.rpc import service
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
    held_by,
    infer,
    npy,
    serve,
)
from tests.integration.mutants import first_seed, mutant

OPTIONS = [("grpc.enable_http_proxy", 0)]


@pytest.fixture
def settings(settings: GatewaySettings) -> GatewaySettings:
    return settings.model_copy(update={"grpc_port": free_port()})


@pytest.fixture
async def channel(settings: GatewaySettings, client: httpx.AsyncClient) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.grpc_port}", OPTIONS) as channel:
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
    async with (
        serve(away),
        grpc.aio.insecure_channel(f"127.0.0.1:{away.grpc_port}", OPTIONS) as channel,
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
    async with (
        serve(guarded),
        grpc.aio.insecure_channel(f"127.0.0.1:{guarded.grpc_port}", OPTIONS) as channel,
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


async def forever(*messages: pb.InferRequest) -> AsyncIterator[bytes]:
    """Messages, after which the call is never ended."""
    for message in messages:
        yield message.SerializeToString()
    await asyncio.Event().wait()


def pieces(request: pb.InferRequest, size: int) -> list[pb.InferRequest]:
    """A request in messages that have so many bytes of its exposure."""
    content = request.exposure
    parts = [content[i : i + size] for i in range(0, len(content), size)]
    first = pb.InferRequest()
    first.CopyFrom(request)
    first.exposure = parts[0]
    return [first, *(pb.InferRequest(exposure=part) for part in parts[1:])]


async def test_strangers_are_told_so_before_their_message_is_read(settings):
    guarded = settings.model_copy(update={"auth": "required"})
    async with (
        serve(guarded),
        grpc.aio.insecure_channel(f"127.0.0.1:{guarded.grpc_port}", OPTIONS) as channel,
    ):
        for method in ("Infer", "InferStream", "InferUpload"):
            call = channel.stream_unary(f"/{NAME}/{method}")(forever())
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED, method
        # One who sends a large message at once gets the answer, too.
        large = pb.InferRequest(exposure=bytes(30_000_000))
        error = await refusal(DetectionsStub(channel), large, streaming=False)
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        assert json.loads(dict(error.trailing_metadata())["problem"])["status"] == 401


async def test_calls_that_stand_still_keep_nobody_out(settings):
    hasty = settings.model_copy(update={"upload_grace": 2.0, "upload_timeout": 5.0})
    check = f"/{health.SERVICE_NAME}/Check"
    async with (
        serve(hasty),
        grpc.aio.insecure_channel(f"127.0.0.1:{hasty.grpc_port}", OPTIONS) as channel,
    ):
        first = pb.InferRequest(exposure=b"a")
        methods = [f"/{NAME}/{kind}" for kind in ("Infer", "InferUpload")]
        still = [channel.stream_unary(name)(forever(first)) for name in methods * 10]
        still += [channel.stream_unary(check)(forever()) for _ in range(20)]
        answer = await DetectionsStub(channel).Infer(pb.InferRequest(exposure=npy(exposure())))
        assert answer.run.run_id
        stub = health_pb2_grpc.HealthStub(channel)
        assert (await stub.Check(health_pb2.HealthCheckRequest(service=NAME))).status
        for call in still[:2]:
            assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            problem = json.loads(dict(await call.trailing_metadata())["problem"])
            assert problem["type"].endswith(":upload-timeout")
        assert "send pieces of 64 KiB to 1 MiB" in await still[1].details()
        for call in still:
            call.cancel()


async def end(call: Any) -> grpc.StatusCode:
    """How a call ends, once its answers are read."""
    async with asyncio.timeout(60):
        with suppress(grpc.aio.AioRpcError):
            while await call.read():
                pass
        return await call.code()


def reflected(*names: str) -> Iterator[bytes]:
    for name in names:
        asked = reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
        yield asked.SerializeToString()


async def test_methods_that_are_open_to_all_bound_each_message(settings):
    """Also those after the first, and calls that are never ended."""
    hasty = settings.model_copy(update={"header_timeout": 1.0})
    check, watch = (f"/{health.SERVICE_NAME}/{kind}" for kind in ("Check", "Watch"))
    reflect = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"
    async with (
        serve(hasty),
        grpc.aio.insecure_channel(f"127.0.0.1:{hasty.grpc_port}", OPTIONS) as channel,
    ):
        silent = channel.stream_unary(check)(forever())
        assert await silent.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        empty = channel.stream_unary(check)(iter(()))
        assert await empty.code() is grpc.StatusCode.INVALID_ARGUMENT
        answers = [one async for one in channel.stream_stream(reflect)(reflected(NAME, "nothing"))]
        assert len(answers) == 2
        assert b"InferUpload" in answers[0]

        async def begun() -> AsyncIterator[bytes]:
            for one in reflected(NAME):
                yield one
            await asyncio.Event().wait()

        # They end, although the caller does not.
        calls = [channel.stream_stream(reflect)(begun()) for _ in range(40)]
        calls.append(channel.unary_stream(watch)(b""))
        assert await calls[-1].read()
        for call in calls[:-1]:
            await end(call)
        assert not calls[-1].done()
        calls[-1].cancel()


async def test_of_too_many_calls_open_to_all_the_oldest_go(settings, monkeypatch):
    monkeypatch.setattr(service, "_OPEN_CALLS", 4)
    async with (
        serve(settings),
        grpc.aio.insecure_channel(f"127.0.0.1:{settings.grpc_port}", OPTIONS) as channel,
    ):
        calls = []
        for _ in range(6):
            calls.append(channel.unary_stream(f"/{health.SERVICE_NAME}/Watch")(b""))
            assert await calls[-1].read()
        for call in calls[:2]:
            assert await end(call) is grpc.StatusCode.UNAVAILABLE
        assert not any(call.done() for call in calls[2:])
        for call in calls[2:]:
            call.cancel()


async def test_exposures_larger_than_a_message_come_in_pieces(settings):
    small = settings.model_copy(update={"max_message": 100_000})
    request = pb.InferRequest(exposure=npy(exposure()), filename="night.npy", tta=True)
    async with (
        serve(small) as client,
        grpc.aio.insecure_channel(f"127.0.0.1:{small.grpc_port}", OPTIONS) as channel,
    ):
        stub = DetectionsStub(channel)
        assert (await refusal(stub, request, False)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        # What it unpacks to counts.
        gzipped = stub.Infer(
            pb.InferRequest(exposure=bytes(1_000_000)), compression=grpc.Compression.Gzip
        )
        assert await gzipped.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        events = [event async for event in stub.InferUpload(iter(pieces(request, 65_536)))]
        run = next(event.run for event in events if event.WhichOneof("event") == "run")
        assert run.tta
        assert run.exposure.name == "night.npy"
        whole = (await infer(client, npy(exposure()), {"tta": True})).json()
        assert run.exposure.digest == whole["exposure"]["digest"]
        found = [one.confidence for event in events for one in event.part.detections]
        assert found == [one["confidence"] for one in whole["detections"]]

        late = [*pieces(request, 65_536), pb.InferRequest(filename="other")]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.InferUpload(iter(late)):
                pass
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        problem = json.loads(dict(caught.value.trailing_metadata())["problem"])
        assert problem["field"] == "filename"
        too_many = (pb.InferRequest(exposure=bytes(90_000)) for _ in range(600))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in stub.InferUpload(too_many):
                pass
        problem = json.loads(dict(caught.value.trailing_metadata())["problem"])
        assert problem["status"] == 413


async def test_uploads_that_arrive_are_few_and_all_their_pieces_count(settings, monkeypatch):
    monkeypatch.setattr(service, "_UPLOADING", 2)
    patient = settings.model_copy(update={"upload_grace": 60.0})
    upload = f"/{NAME}/InferUpload"
    async with (
        serve(patient) as client,
        grpc.aio.insecure_channel(f"127.0.0.1:{patient.grpc_port}", OPTIONS) as channel,
    ):
        tiny = [pb.InferRequest(tta=True) for _ in range(100)]
        arriving = [channel.stream_stream(upload)(forever(*tiny)) for _ in range(2)]
        async with asyncio.timeout(60):
            while await held_by(client) < 200 * 1024:
                await asyncio.sleep(0.02)
        further = channel.stream_stream(upload)(iter([tiny[0].SerializeToString()]))
        assert await end(further) is grpc.StatusCode.UNAVAILABLE
        trailing = dict(await further.trailing_metadata())
        assert json.loads(trailing["problem"])["type"].endswith(":busy")
        assert int(trailing["retry-after"]) > 0
        for call in arriving:
            call.cancel()
        async with asyncio.timeout(60):
            while await held_by(client):
                await asyncio.sleep(0.02)


async def test_messages_have_known_fields_and_come_once(channel):
    good = pb.InferRequest(exposure=npy(exposure())).SerializeToString()
    ask = channel.stream_unary(f"/{NAME}/Infer")
    unknown, nested = b"\xa0\x3f\x01", b"\x32\x03\xa0\x3f\x01"  # field 1012, and within `hdu`
    for messages, field in (
        ([good + unknown], "1012"),
        ([good + nested], "hdu"),
        ([good, good], "request"),
        ([], "request"),
    ):
        call = ask(iter(messages))
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT, field
        assert json.loads(dict(await call.trailing_metadata())["problem"])["field"] == field


async def test_metadata_and_what_precedes_them_are_bounded(settings, monkeypatch):
    monkeypatch.setattr(service, "_IDLE", 1.0)
    hasty = settings.model_copy(update={"header_timeout": 1.0})
    async with serve(hasty):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{hasty.grpc_port}", OPTIONS) as channel:
            call = DetectionsStub(channel).Infer(pb.InferRequest(), metadata=[("a", "b" * 100_000)])
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
        unfinished = b"\0\0\2\1\0\0\0\0\1\x83\x86"  # headers, of which more are to come
        for sent in (b"", preface[:10], preface + unfinished):
            reader, writer = await asyncio.open_connection("127.0.0.1", hasty.grpc_port)
            writer.write(sent)
            async with asyncio.timeout(60):
                while await reader.read(65536):
                    pass
            writer.close()
