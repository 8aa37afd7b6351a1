"""Who gets in, what they may do and how much of it, and what is never fetched or logged."""

import asyncio
import gzip
import io
import logging
import math
import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import httpx
import jwt
import numpy as np
import obstore
import pytest
from astropy.io import fits
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import rsa
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic import ValidationError

from astrotriton.commands.keys import keys as keys_command
from astrotriton.gateway.backends import oidc
from astrotriton.gateway.keys import SCOPES, new_key
from astrotriton.gateway.rpc.detections_pb2 import DESCRIPTOR
from astrotriton.gateway.rpc.service import NAME
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.wire.events import EVENTS
from tests.integration.gateway_parts import (
    ObjectStoreServer,
    exposure,
    free_port,
    infer,
    npy,
    serve,
)
from tests.integration.identity_parts import Issuer, bearer, guarded_by, key_with, until_let_in

DETECTION = f"/detections/{uuid4()}"
ROUTE = "/models/unet_astronomical/route"
# Method, path, scope, and the status of somebody who may.
ENDPOINTS = [
    ("POST", "/detections/infer", "infer", 415),
    ("POST", "/detections/infer-by-reference", "infer", 415),
    ("POST", "/detections/infer-stamps", "infer", 415),
    ("GET", "/detections/", "read", 200),
    # Of an id that there is, it would go on.
    ("GET", f"/detections/stream?after={uuid4()}", "read", 422),
    ("GET", DETECTION, "read", 404),
    ("GET", f"{DETECTION}/confidence", "read", 404),
    ("GET", f"{DETECTION}/cutout.png", "read", 404),
    ("GET", f"{DETECTION}/cutout.fits", "read", 404),
    ("PATCH", DETECTION, "label", 404),
    ("GET", "/labels/", "read", 200),
    ("GET", "/runs/", "read infer", 200),
    # Of a run that is not the caller's own, it is not told whether there is one.
    ("POST", f"/runs/{uuid4()}/cancel", "infer", 403),
    # Who may infer sees its own runs, and this is none.
    ("GET", f"/runs/{uuid4()}", "read", 404),
    ("GET", "/models/", "read", 200),
    ("GET", "/models/x", "read", 404),
    ("GET", "/models/x/performance", "read", 404),
    ("GET", "/models/x/agreement?with=y", "read", 404),
    ("GET", "/models/x/canary", "read", 404),
    ("GET", "/models/x/validations", "read", 404),
    ("POST", "/models/x/validate", "admin", 422),
    ("GET", "/models/x/drift", "read", 404),
    ("POST", "/models/x/drift", "admin", 404),
    ("PUT", "/models/x/drift/baseline", "admin", 422),
    ("GET", f"/validations/{uuid4()}", "read", 404),
    ("GET", f"/drift/{uuid4()}", "read", 404),
    ("GET", f"/drift/{uuid4()}/report", "read", 404),
    ("GET", ROUTE, "read", 404),
    ("PUT", ROUTE, "admin", 409),
    ("GET", "/models/x/prevalence", "read", 404),
    ("PUT", "/models/x/prevalence", "admin", 422),
    ("GET", "/health/dependencies", "read", 200),
]
# What asks nobody who it is.
OPEN = [
    *("/health/live", "/health/ready", "/metrics", "/schema", "/schema/openapi.json"),
    *(f"/schema/events/{kind}.json" for kind in EVENTS),
]
# Method of the gRPC service, scope, and the status of somebody who may, whose message is empty.
METHODS = [
    ("Infer", "infer", grpc.StatusCode.INVALID_ARGUMENT),
    ("InferStream", "infer", grpc.StatusCode.INVALID_ARGUMENT),
    ("InferUpload", "infer", grpc.StatusCode.INVALID_ARGUMENT),
]
_RPC = {401: grpc.StatusCode.UNAUTHENTICATED, 403: grpc.StatusCode.PERMISSION_DENIED}
BODIES = {"PATCH": {"label": "real"}, "PUT": {"champion": 99}}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


@pytest.fixture
def guarded(settings: GatewaySettings, issuer: Issuer) -> GatewaySettings:
    return guarded_by(settings, issuer)


@pytest.fixture
async def client(guarded: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(guarded) as client:
        yield client


async def ask(client: httpx.AsyncClient, method: str, path: str, token: str | None) -> int:
    response = await client.request(method, path, json=BODIES.get(method), headers=bearer(token))
    if response.status_code in (401, 403):
        assert response.headers["content-type"] == "application/problem+json"
        assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    return response.status_code


async def callers_of(settings: GatewaySettings, issuer: Issuer) -> dict[str, Any]:
    """Every kind of caller: its key or token, and the scopes that it has; None: it is nobody."""
    past = datetime.now(UTC) - timedelta(minutes=5)
    every = " ".join(SCOPES)
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    admin = await key_with(settings, "admin")
    nobody = {
        "no key": None,
        "nonsense": "x.y.z",
        "unknown key": new_key("x", ["admin"]).token,
        "wrong secret": admin[:-1] + ("A" if admin[-1] != "A" else "B"),
        "expired key": await key_with(settings, *SCOPES, expires_at=past),
        "revoked key": await key_with(settings, *SCOPES, revoked=True),
        "forged token": issuer.token(every, key=stranger),
        "unknown signer": issuer.token(every, kid="2"),
        "unsigned token": jwt.encode({"sub": "x", "scope": every}, None, algorithm="none"),
        "shared secret": jwt.encode({"sub": "x"}, "k" * 32, "HS256", headers={"kid": "1"}),
        "wrong audience": issuer.token(every, aud="another"),
        "wrong issuer": issuer.token(every, iss="https://elsewhere.example"),
        "expired token": issuer.token(every, exp=past),
    }
    known = {"token without a scope of ours": (issuer.token("openid"), set())}
    for scope in SCOPES:
        known[f"key: {scope}"] = (await key_with(settings, scope), {scope})
        known[f"token: {scope}"] = (issuer.token(f"openid {scope}", sub=scope), {scope})
    return {name: (token, None) for name, token in nobody.items()} | known


def due(scopes: set[str] | None, needed: str, status: Any) -> Any:
    """The status of an answer to a caller with some scopes, one of which is needed."""
    if scopes is None:
        return 401
    return status if scopes.intersection(needed.split()) else 403


async def test_who_gets_in(client, guarded, issuer, monkeypatch):
    monkeypatch.setattr(oidc, "_SHORTEST_PAUSE", math.inf)
    callers, table = await callers_of(guarded, issuer), {}
    await until_let_in(client, issuer.token("read"))
    asked = issuer.asked
    for method, path, needed, status in ENDPOINTS:
        for name, (token, scopes) in callers.items():
            wanted = due(scopes, needed, status)
            table[method, path, name] = (await ask(client, method, path, token), wanted)
    for path in OPEN:
        for name, (token, _) in callers.items():
            status = await ask(client, "GET", path, token)
            table["GET", path, name] = (status, status if status == 503 else 200)
    assert {case: got for case, got in table.items() if got[0] != got[1]} == {}
    # An unknown signer does not make the gateway fetch keys each time.
    assert issuer.asked == asked


async def test_who_gets_in_over_grpc(guarded, issuer):
    callers, table = await callers_of(guarded, issuer), {}
    guarded = guarded.model_copy(update={"grpc_port": free_port()})
    options = [("grpc.enable_http_proxy", 0)]
    async with (
        serve(guarded) as client,
        grpc.aio.insecure_channel(f"127.0.0.1:{guarded.grpc_port}", options) as channel,
    ):
        await until_let_in(client, issuer.token("read"))
        for method, needed, status in METHODS:
            kind, message = {
                "Infer": (channel.unary_unary, b""),
                "InferStream": (channel.unary_stream, b""),
                "InferUpload": (channel.stream_stream, [b""]),
            }[method]
            for name, (token, scopes) in callers.items():
                metadata = [(key.lower(), value) for key, value in bearer(token).items()]
                wanted = due(scopes, needed, status)
                code = await kind(f"/{NAME}/{method}")(message, metadata=metadata).code()
                table[method, name] = (code, _RPC.get(wanted, wanted))
        # Health and reflection ask nobody; nothing else is there.
        health = health_pb2_grpc.HealthStub(channel)
        await health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        listing = reflection_pb2.ServerReflectionRequest(list_services="")
        reflect = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
        (told,) = [answer async for answer in reflect(iter([listing]))]
    assert {case: got for case, got in table.items() if got[0] != got[1]} == {}
    assert {service.name for service in told.list_services_response.service} == {
        *(NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection")
    }


async def test_every_operation_is_in_the_table(client):
    document = (await client.get("/schema/openapi.json")).json()
    operations = {
        (method.upper(), re.sub(r"\{[^}]*\}", "{}", path))
        for path, methods in document["paths"].items()
        for method in methods
        if path not in OPEN
    }
    listed = {
        (method, re.sub(r"[0-9a-f-]{36}|unet_astronomical|\bx(?=/|$)", "{}", path).rstrip("/"))
        for method, asked, _, _ in ENDPOINTS
        for path in (asked.partition("?")[0],)
    }
    assert {(method, path.rstrip("/")) for method, path in operations} == listed
    methods = DESCRIPTOR.services_by_name["Detections"].methods_by_name
    assert {method for method, _, _ in METHODS} == set(methods)


async def test_head_is_answered_as_get_is(client, guarded):
    """Everywhere; load balancers ask for health so."""
    token = await key_with(guarded, "read")
    paths = [path for method, path, _, _ in ENDPOINTS if method == "GET"]
    for path in (*paths, *OPEN, "/nowhere"):
        for headers in ({}, bearer(token)):
            head = await client.head(path, headers=headers)
            assert head.status_code == (await client.get(path, headers=headers)).status_code, path
            assert head.content == b""
    assert (await client.head("/detections/infer")).status_code == 405
    # They are counted as GET is.
    assert "HttpMethod" not in (await client.get("/metrics")).text
    assert "HEAD" in (await client.options("/health/ready")).headers["allow"]


async def test_a_caller_is_kept_to_its_rate(client, guarded):
    token = await key_with(guarded, "read", rate_per_minute=3)
    other = await key_with(guarded, "read")
    headers = {"Authorization": f"Bearer {token}"}
    answers = [await client.get("/detections/", headers=headers) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[-1].json()["type"].endswith("too-many-requests")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
    assert await ask(client, "GET", "/detections/", other) == 200


async def test_a_caller_is_kept_to_its_concurrency(client, guarded):
    token = await key_with(guarded, "infer", concurrency=1)
    files = {"exposure": npy(exposure())}
    headers = {"Authorization": f"Bearer {token}"}
    answers = await asyncio.gather(
        *(client.post("/detections/infer", files=files, headers=headers) for _ in range(4))
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert (await client.post("/detections/infer", files=files, headers=headers)).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "gateway.example"])
def test_everyone_is_let_in_on_loopback_only(host):
    with pytest.raises(ValidationError, match="auth is off"):
        GatewaySettings(auth="off", host=host, database_url="postgresql://localhost/x")
    GatewaySettings(auth="off", host="127.0.0.1", database_url="postgresql://localhost/x")


def test_keys_are_made_listed_and_revoked_by_the_command(database):
    def keys(*arguments: str, code: int = 0) -> str:
        environment = {"ASTROTRITON_DATABASE_URL": database}
        done = CliRunner().invoke(keys_command, arguments, env=environment)
        assert done.exit_code == code, done.output
        return done.stdout.strip()

    token = keys("create", "pipeline", "--scope", "infer", "--scope", "read", "--days", "7")
    key_id = token.split("_")[1]
    assert re.fullmatch(r"at_[0-9a-f]{12}_[\w-]{43}", token)
    listed = keys("list")
    assert key_id in listed
    assert "infer,read" in listed
    assert token not in listed
    keys("revoke", key_id)
    assert "revoked" in keys("list")
    keys("revoke", "0" * 12, code=1)
    keys("create", "pipeline", "--scope", "everything", code=2)


@pytest.fixture
async def reading(
    settings: GatewaySettings, object_store: ObjectStoreServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """A gateway that may read the bucket `nights`; there is another one, `private`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_key)
    for name in ("nights", "private"):
        obstore.put(object_store.bucket(name), "2026/a.npy", npy(exposure()))
    nights = object_store.bucket("nights")
    obstore.put(nights, "mask.npy", npy(np.zeros(exposure().shape, np.uint8)))
    obstore.put(nights, "table.csv", b"id,X_IMAGE,Y_IMAGE\none,61,51\noff,999,1\n")
    obstore.put(nights, "large", bytes(settings.max_bytes + 1))
    may = {"s3_buckets": ["nights"], "s3_endpoint": object_store.url, "s3_region": "us-east-1"}
    async with serve(settings.model_copy(update=may)) as client:
        yield client


async def test_objects_of_allowed_buckets_are_scored_and_nothing_else_is_fetched(reading):
    direct = await infer(reading, npy(exposure()))
    named = await reading.post(
        "/detections/infer",
        json={"exposure": "s3://nights/2026/a.npy", "mask": "s3://nights/mask.npy"},
    )
    assert named.status_code == 200, named.text
    assert named.json()["exposure"]["name"] == "a.npy"
    assert named.json()["exposure"]["digest"] == direct.json()["exposure"]["digest"]
    asked = {"exposure": "s3://nights/2026/a.npy", "candidates_table": "s3://nights/table.csv"}
    with_table = await reading.post("/detections/infer-by-reference", json=asked)
    found = {one["candidate_id"]: one for one in with_table.json()["detections"]}
    assert found["one"]["is_real"]
    assert found["off"]["unscored_reason"] == "off_image"
    asked["candidates_table"] = "s3://nights/mask.npy"
    refused = await reading.post("/detections/infer", json=asked)
    assert (refused.status_code, refused.json()["field"]) == (422, "candidates_table")
    for url, status, code in (
        ("s3://private/2026/a.npy", 422, "bucket-not-allowed"),
        ("s3://nights/../private/2026/a.npy", 422, "bad-url"),
        ("s3://nights/2026/../../private/2026/a.npy", 422, "bad-url"),
        ("s3://nights/%2e%2e/private/2026/a.npy", 422, "no-such-object"),
        ("s3://nights//2026/a.npy", 422, "bad-url"),
        ("s3://nights/missing.npy", 422, "no-such-object"),
        ("s3://nights/", 422, "bad-url"),
        ("s3://nights@private/a", 422, "bad-url"),
        ("s3://127.0.0.1:80/a", 422, "bad-url"),
        ("http://127.0.0.1/a", 422, "bad-url"),
        ("http://169.254.169.254/latest/meta-data", 422, "bad-url"),
        ("file:///etc/passwd", 422, "bad-url"),
        ("/etc/passwd", 422, "bad-url"),
        ("s3://nights/a\nb", 422, "bad-url"),
        ("s3://nights/large", 413, "too-large"),
    ):
        response = await reading.post("/detections/infer", json={"exposure": url})
        assert (response.status_code, response.json()["type"].rpartition(":")[2]) == (
            status,
            code,
        ), (url, response.text)
        assert response.json()["field"] == "exposure"


async def test_no_bucket_is_allowed_unless_the_settings_say_so(settings):
    async with serve(settings) as client:
        answer = await client.post("/detections/infer", json={"exposure": "s3://nights/a.npy"})
    assert answer.json()["type"].endswith("bucket-not-allowed")


async def test_a_small_file_that_becomes_large_is_refused(settings):
    file = io.BytesIO()
    fits.PrimaryHDU(np.zeros((2000, 2000), np.float32)).writeto(file)
    bomb = gzip.compress(file.getvalue())
    assert len(bomb) < settings.max_bytes // 100
    async with serve(settings) as client:
        for content in (bomb, gzip.compress(bytes(50_000_000))):
            response = await infer(client, content)
            assert response.status_code == 413, response.text


async def test_answers_carry_headers_that_keep_browsers_safe(client):
    for path, status in (("/health/live", 200), ("/detections/", 401), ("/nowhere", 404)):
        response = await client.get(path)
        assert response.status_code == status
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["cache-control"] == "no-store"
    page = await client.get("/schema")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]


async def test_no_secret_is_logged(guarded, issuer, caplog, object_store, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", object_store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", object_store.secret_key)
    caplog.set_level(logging.DEBUG)
    for name in ("astrotriton", "uvicorn", "litestar", "httpx", "asyncio"):
        logging.getLogger(name).setLevel(logging.DEBUG)
    key, token = await key_with(guarded, *SCOPES), issuer.token("infer read")
    may = {"s3_buckets": ["nights"], "s3_endpoint": object_store.url}
    async with serve(guarded.model_copy(update=may)) as client:
        for secret in (key, token, key[:-2], token[:-2]):
            headers = {"Authorization": f"Bearer {secret}"}
            await client.get("/detections/", headers=headers)
            await client.post(
                "/detections/infer", json={"exposure": "s3://nights/a"}, headers=headers
            )
            await client.post("/detections/infer", files={"exposure": b"x"}, headers=headers)
    assert caplog.records
    text = "\n".join(
        f"{record.getMessage()} {record.exc_text or ''} {record.__dict__}"
        for record in caplog.records
    )
    for secret in (key.split("_", 2)[2][:20], token.split(".")[2][:20], object_store.secret_key):
        assert secret not in text


def test_settings_do_not_show_their_secrets(settings, tmp_path: Path):
    assert settings.database_url.get_secret_value() not in repr(settings)
