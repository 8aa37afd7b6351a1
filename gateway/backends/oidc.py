"""Bearer tokens of an OpenID Connect provider."""

import asyncio
import logging
import time
from typing import Any

import httpx
import jwt

from astrotriton.gateway.errors import DependencyError, UnauthenticatedError

DEPENDENCY = "oidc"
# Signatures with a public key only: with a shared secret, who can check a token can make one.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
_TIMEOUT = 5.0
_LIFETIME = 3600.0
# A token with an unknown key may mean that keys were changed, but must not cost a fetch each.
_SHORTEST_PAUSE = 10.0
_LARGEST = 1024 * 1024
_LEEWAY = 30

_log = logging.getLogger(__name__)


class TokenVerifier:
    """Checks tokens of one issuer, with its public keys, which are fetched and kept for an hour.

    Parameters
    ----------
    issuer, audience
        What ``iss`` and ``aud`` must be.
    jwks_url
        Where the keys are; None: what the issuer's discovery document says.
    """

    def __init__(self, issuer: str, audience: str, jwks_url: str | None) -> None:
        self._issuer = issuer
        self._audience = audience
        self._jwks_url = jwks_url
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._lock = asyncio.Lock()

    async def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token.

        Raises
        ------
        UnauthenticatedError
            If it is not a valid token of the issuer for this audience.
        DependencyError
            If the issuer's keys cannot be had.
        """
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(header.get("kid"))
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                audience=self._audience,
                issuer=self._issuer,
                leeway=_LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as error:
            raise UnauthenticatedError(f"the bearer token is not valid: {error}") from error
        return claims

    async def _key(self, kid: str | None) -> jwt.PyJWK:
        async with self._lock:
            age = float("inf")
            if self._fetched_at is not None:
                age = time.monotonic() - self._fetched_at
            if age > _LIFETIME or (kid not in self._keys and age > _SHORTEST_PAUSE):
                await self._fetch()
        if kid not in self._keys:
            raise UnauthenticatedError("the bearer token is signed with a key that is not known")
        return self._keys[kid]

    async def _fetch(self) -> None:
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False) as client:
                url = self._jwks_url
                if url is None:
                    found = await _get(
                        client, self._issuer.rstrip("/") + "/.well-known/openid-configuration"
                    )
                    url = str(found["jwks_uri"])
                keys = jwt.PyJWKSet.from_dict(await _get(client, url)).keys
        except (httpx.HTTPError, ValueError, KeyError, jwt.PyJWTError) as error:
            if self._keys:
                _log.warning("the keys of %s cannot be renewed: %s", self._issuer, error)
                return
            raise DependencyError(DEPENDENCY, f"the keys of {self._issuer}: {error}") from error
        finally:
            self._fetched_at = time.monotonic()
        self._keys = {key.key_id: key for key in keys}


async def _get(client: httpx.AsyncClient, url: str) -> dict[str, Any]:
    response = await client.get(url)
    response.raise_for_status()
    if len(response.content) > _LARGEST:
        raise ValueError(f"{url} answers too much")
    answer: dict[str, Any] = response.json()
    return answer
