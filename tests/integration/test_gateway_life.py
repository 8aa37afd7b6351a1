"""How a gateway tells how it is, and how it leaves."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2,
    trace_service_pb2_grpc,
)
from prometheus_client.parser import text_string_to_metric_families

from astrotriton.gateway.settings import GatewaySettings
from tests.integration.gateway_parts import (
    SOURCES,
    exposure,
    free_port,
    gateway_process,
    infer,
    npy,
    until_live,
)

# Of who asks for a WebSocket.
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@asynccontextmanager
async def process_of(
    settings: GatewaySettings, folder: Path, **environment: str
) -> AsyncIterator[tuple[Any, httpx.AsyncClient]]:
    process = gateway_process(settings, folder, **environment)
    try:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{settings.port}", trust_env=False, timeout=60
        ) as client:
            await until_live(client, process)
            yield process, client
    finally:
        process.kill()
        process.wait()


async def ended(process: Any) -> int:
    async with asyncio.timeout(60):
        while process.poll() is None:
            await asyncio.sleep(0.05)
    return process.returncode


async def test_a_gateway_that_leaves_says_so_and_ends_what_it_began(settings, tmp_path):
    async with process_of(settings, tmp_path, ASTROTRITON_DRAIN_DELAY="2") as (process, client):
        assert (await client.get("/health/ready")).status_code == 200
        begun = asyncio.create_task(infer(client, npy(exposure())))
        job = await client.post(
            "/detections/infer",
            files={"exposure": npy(exposure())},
            headers={"Prefer": "respond-async"},
        )
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            while (ready := await client.get("/health/ready")).status_code == 200:
                await asyncio.sleep(0.05)
        assert "shutting down" in ready.json()["parts"]["gateway"]["detail"]
        assert (await client.get("/health/live")).status_code == 200
        assert (await infer(client, npy(exposure()))).status_code == 200
        assert (await begun).status_code == 200
        assert await ended(process) in (0, -signal.SIGTERM)
    async with process_of(settings, tmp_path) as (_, client):
        run = (await client.get(job.headers["location"])).json()
        assert run["status"] == "complete"


async def test_dependencies_are_told_in_detail(client, nats_server, triton):
    async with asyncio.timeout(30):
        while not (await client.get("/health/dependencies")).json()["parts"]["nats"]["ready"]:
            await asyncio.sleep(0.1)
    parts = (await client.get("/health/dependencies")).json()["parts"]
    assert set(parts) == {"database", "model", f"triton {triton.address}", "nats", "outbox"}
    assert all(part["ready"] for part in parts.values())
    nats_server.stop()
    await infer(client, npy(exposure()))
    async with asyncio.timeout(30):
        while (parts := (await client.get("/health/dependencies")).json()["parts"])["nats"][
            "ready"
        ]:
            await asyncio.sleep(0.1)
    assert parts["outbox"]["detail"].startswith("1 events wait")
    assert (await client.get("/health/ready")).status_code == 200


async def test_metrics_are_for_prometheus(client):
    def value(families: dict[str, Any], family: str, name: str, **labels: str) -> float:
        return sum(
            sample.value
            for sample in families[family].samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def scrape() -> dict[str, Any]:
        response = await client.get("/metrics")
        assert response.headers["content-type"].startswith("text/plain")
        return {family.name: family for family in text_string_to_metric_families(response.text)}

    before = await scrape()
    assert (await infer(client, npy(exposure()))).status_code == 200
    assert (await infer(client, b"")).status_code == 422
    await client.get("/detections/00000000-0000-0000-0000-000000000000")
    after = await scrape()

    def grown(family: str, name: str, **labels: str) -> float:
        return value(after, family, name, **labels) - value(before, family, name, **labels)

    http = "astrotriton_http_request_duration_seconds"
    path = "/detections/infer"
    assert grown(http, f"{http}_count", method="POST", path=path, status="200") == 1
    assert grown(http, f"{http}_count", method="POST", path=path, status="422") == 1
    assert grown(http, f"{http}_count", path="/detections/{detection_id}", status="404") == 1
    stages = "astrotriton_run_stage_duration_seconds"
    for stage in ("wait", "prepare", "infer", "finish", "store"):
        assert grown(stages, f"{stages}_count", stage=stage) >= 1
    assert grown("astrotriton_detections", "astrotriton_detections_total", real="true") == len(
        SOURCES
    )
    assert grown("astrotriton_problems", "astrotriton_problems_total", code="not-fits") == 1


async def test_traces_go_from_the_caller_through_the_gateway_without_its_key(settings, tmp_path):
    spans: list[Any] = []

    class Collector(trace_service_pb2_grpc.TraceServiceServicer):
        async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            return trace_service_pb2.ExportTraceServiceResponse()

    port = free_port()
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Collector(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    trace = "0af7651916cd43dd8448eb211c80319c"
    environment = {
        "ASTROTRITON_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "no_proxy": "127.0.0.1",
    }
    try:
        async with process_of(settings, tmp_path, **environment) as (_, client):
            client.headers["traceparent"] = f"00-{trace}-b7ad6b7169203331-01"
            assert (await infer(client, npy(exposure()))).status_code == 200
            # A caller who does not know better may send its key so.
            query = "api_key=at_secret&access_token=eyJ.secret.x&limit=secret"
            for path in ("/health/ready", "/detections/", "/nowhere", "/detections/infer"):
                for headers in ({}, UPGRADE):
                    await client.get(f"{path}?{query}", headers=headers)
            wanted = {"prepare", "infer", "finish", "store", "GET /detections/"}
            async with asyncio.timeout(30):
                while not wanted <= {s.name for s in spans if s.trace_id.hex() == trace}:
                    await asyncio.sleep(0.1)
    finally:
        await server.stop(None)
    lines = [json.loads(line) for line in (tmp_path / "gateway.log").read_text().splitlines()]
    assert any(
        line.get("trace_id") == trace
        for line in lines
        if line["logger"].startswith("astrotriton.gateway")
    )
    requests = [line["message"] for line in lines if line["logger"] == "uvicorn.access"]
    assert any('"GET /detections HTTP' in message for message in requests)
    for told in (*map(str, lines), *map(str, spans)):
        assert "secret" not in told
