"""Who gets in, what they may do and how much of it, and what is never fetched or logged."""

import asyncio
import gzip
import io
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import jwt
import numpy as np
import obstore
import pytest
from astropy.io import fits
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from pydantic import ValidationError

from astrotriton.commands.keys import keys as keys_command
from astrotriton.gateway.keys import SCOPES, new_key
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.storage.api_keys import insert_key
from tests.integration.gateway_parts import (
    ObjectStoreServer,
    exposure,
    infer,
    npy,
    serve,
)

AUDIENCE = "astrotriton"
DETECTION = f"/detections/{uuid4()}"
ROUTE = "/models/unet_astronomical/route"
# Method, path, scope, and the status of somebody who may.
ENDPOINTS = [
    ("POST", "/detections/infer", "infer", 415),
    ("GET", "/detections/", "read", 200),
    ("GET", DETECTION, "read", 404),
    ("GET", f"{DETECTION}/confidence", "read", 404),
    ("GET", f"{DETECTION}/cutout.png", "read", 404),
    ("PATCH", DETECTION, "label", 404),
    ("GET", f"/runs/{uuid4()}", "read", 404),
    ("GET", "/models/", "read", 200),
    ("GET", "/models/x", "read", 404),
    ("GET", "/models/x/performance", "read", 404),
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
    ("GET", "/health/dependencies", "read", 200),
]
OPEN = ["/health/live", "/health/ready", "/metrics", "/schema", "/schema/openapi.json"]
BODIES = {"PATCH": {"label": "real"}, "PUT": {"champion": 99}}


class Issuer:
    """An OpenID Connect provider that only has keys."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.fetched = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/.well-known/openid-configuration":
                    body: dict[str, Any] = {"jwks_uri": f"{issuer.url}/keys"}
                else:
                    issuer.fetched += 1
                    key = json.loads(RSAAlgorithm.to_jwk(issuer.key.public_key()))
                    body = {"keys": [key | {"kid": "1", "alg": "RS256", "use": "sig"}]}
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Issuer":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def token(self, scope: str, *, kid: str = "1", key: Any = None, **claims: Any) -> str:
        now = datetime.now(UTC)
        given = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "astronomer",
            "exp": now + timedelta(minutes=5),
            "scope": scope,
        }
        return jwt.encode(given | claims, key or self.key, "RS256", headers={"kid": kid})


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        yield issuer


@pytest.fixture
def guarded(settings: GatewaySettings, issuer: Issuer) -> GatewaySettings:
    return settings.model_copy(
        update={
            "auth": "required",
            "oidc_issuer": issuer.url,
            "oidc_audience": AUDIENCE,
            "probe_interval": 60.0,
        }
    )


@pytest.fixture
async def client(guarded: GatewaySettings) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(guarded) as client:
        yield client


async def key_with(
    settings: GatewaySettings, *scopes: Any, revoked: bool = False, **options: Any
) -> str:
    key = new_key("test", list(scopes), **options)
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    await insert_key(connection, key)
    if revoked:
        await connection.execute("UPDATE api_keys SET revoked_at = now()  WHERE id = $1", key.id)
    await connection.close()
    return key.token


async def ask(client: httpx.AsyncClient, method: str, path: str, token: str | None) -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    response = await client.request(method, path, json=BODIES.get(method), headers=headers)
    if response.status_code in (401, 403):
        assert response.headers["content-type"] == "application/problem+json"
        assert ("www-authenticate" in response.headers) == (response.status_code == 401)
    return response.status_code


async def test_who_gets_in(client, guarded, issuer):
    past = datetime.now(UTC) - timedelta(minutes=5)
    good = {scope: await key_with(guarded, scope) for scope in SCOPES}
    every = " ".join(SCOPES)
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    unsigned = jwt.encode({"sub": "x", "scope": every}, None, algorithm="none")
    refused = {
        "no key": None,
        "nonsense": "x.y.z",
        "unknown key": new_key("x", ["admin"]).token,
        "wrong secret": good["admin"][:-1] + ("A" if good["admin"][-1] != "A" else "B"),
        "expired key": await key_with(guarded, *SCOPES, expires_at=past),
        "revoked key": await key_with(guarded, *SCOPES, revoked=True),
        "forged token": issuer.token(every, key=stranger),
        "unknown signer": issuer.token(every, kid="2"),
        "unsigned token": unsigned,
        "shared secret": jwt.encode({"sub": "x"}, "k" * 32, "HS256", headers={"kid": "1"}),
        "wrong audience": issuer.token(every, aud="another"),
        "wrong issuer": issuer.token(every, iss="https://elsewhere.example"),
        "expired token": issuer.token(every, exp=past),
    }
    table = {}
    for method, path, scope, status in ENDPOINTS:
        others = [other for other in SCOPES if other != scope]
        wrong = await key_with(guarded, *others)
        for name, token in refused.items():
            table[method, path, name] = (await ask(client, method, path, token), 401)
        table[method, path, "wrong scope"] = (await ask(client, method, path, wrong), 403)
        table[method, path, "token of wrong scope"] = (
            await ask(client, method, path, issuer.token(" ".join(others))),
            403,
        )
        table[method, path, "right scope"] = (await ask(client, method, path, good[scope]), status)
        table[method, path, "token"] = (
            await ask(client, method, path, issuer.token(scope)),
            status,
        )
    assert {case: got for case, got in table.items() if got[0] != got[1]} == {}
    for path in OPEN:
        assert (await client.get(path)).status_code in (200, 503), path
    # An unknown signer does not make the gateway fetch keys each time.
    assert issuer.fetched <= 2


async def test_every_operation_is_in_the_table(client):
    document = (await client.get("/schema/openapi.json")).json()
    operations = {
        (method.upper(), re.sub(r"\{[^}]*\}", "{}", path))
        for path, methods in document["paths"].items()
        for method in methods
        if not path.startswith(("/health/live", "/health/ready"))
    }
    listed = {
        (method, re.sub(r"[0-9a-f-]{36}|unet_astronomical|\bx(?=/|$)", "{}", path).rstrip("/"))
        for method, path, _, _ in ENDPOINTS
    }
    assert {(method, path.rstrip("/")) for method, path in operations} == listed


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
