"""Callers of a gateway: API keys, and an OpenID Connect provider that can fail."""

import asyncio
import json
import socket
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import asyncpg
import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from astrotriton.gateway.keys import new_key
from astrotriton.gateway.settings import GatewaySettings
from astrotriton.gateway.storage.api_keys import insert_key

AUDIENCE = "astrotriton"
DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/keys"


class Issuer:
    """An OpenID Connect provider that only has keys.

    Attributes
    ----------
    answers
        What it answers under a path in place of what it should.
    asked
        How often it has been asked for its keys.
    waiting
        How many requests are kept waiting, while ``lets_go`` is not set.
    """

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.answers: dict[str, bytes] = {}
        self.asked = 0
        self.waiting = 0
        self.lets_go = threading.Event()
        self.lets_go.set()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self._port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Answer from now on, at the same address each time."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == KEYS:
                    issuer.asked += 1
                issuer.waiting += 1
                issuer.lets_go.wait()
                issuer.waiting -= 1
                answer = issuer.answers.get(self.path) or issuer.document(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Answer nobody any more."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> "Issuer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.lets_go.set()
        self.stop()

    def document(self, path: str) -> bytes:
        if path == DISCOVERY:
            return json.dumps({"jwks_uri": f"{self.url}{KEYS}"}).encode()
        return json.dumps({"keys": [self.public_key()]}).encode()

    def public_key(self) -> dict[str, Any]:
        """As a JWK."""
        key = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
        return {**key, "kid": "1", "alg": "RS256", "use": "sig"}

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


def guarded_by(settings: GatewaySettings, issuer: Issuer) -> GatewaySettings:
    """Settings of a gateway that asks who its callers are."""
    return settings.model_copy(
        update={
            "auth": "required",
            "oidc_issuer": issuer.url,
            "oidc_audience": AUDIENCE,
            "probe_interval": 60.0,
        }
    )


async def key_with(
    settings: GatewaySettings, *scopes: Any, revoked: bool = False, **options: Any
) -> str:
    """An API key with these scopes."""
    key = new_key("test", list(scopes), **options)
    connection = await asyncpg.connect(settings.database_url.get_secret_value())
    await insert_key(connection, key)
    if revoked:
        await connection.execute("UPDATE api_keys SET revoked_at = now()  WHERE id = $1", key.id)
    await connection.close()
    return key.token


def bearer(token: str | None) -> dict[str, str]:
    """The header of a caller with a key or token, or without one."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


async def look(client: httpx.AsyncClient, token: str | None) -> httpx.Response:
    """Ask for something as a caller who may read."""
    return await client.get("/detections/", headers=bearer(token))


def assert_nobody_can_tell(answer: httpx.Response) -> None:
    """That the issuer is at fault, and when to come back."""
    assert answer.status_code == 503, answer.text
    assert answer.json()["dependency"] == "oidc"
    assert int(answer.headers["retry-after"]) >= 1


async def until_let_in(client: httpx.AsyncClient, token: str) -> None:
    """Come back until the gateway has the issuer's keys."""
    async with asyncio.timeout(60):
        while (answer := await look(client, token)).status_code != 200:
            assert_nobody_can_tell(answer)
            await asyncio.sleep(0.2)
