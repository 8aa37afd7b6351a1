"""Bearer tokens of an OpenID Connect provider."""

import asyncio
import logging
import time
from typing import Any, NoReturn, TypeVar

import httpx
import jwt
import msgspec

from astrotriton.gateway.errors import DependencyError, UnauthenticatedError
from astrotriton.gateway.periodic import Shared, repeat

DEPENDENCY = "oidc"
# Signatures with a public key only: with a shared secret, who can check a token can make one.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
_PUBLIC = frozenset({"RSA", "EC", "OKP"})
_TIMEOUT = 5.0
_LIFETIME = 3600.0
# After faults: seconds until the keys are asked for again without a token that needs them.
_BACKOFF = (5.0, 60.0)
# A token with an unknown key may mean that keys were changed, but must not cost a fetch each.
_SHORTEST_PAUSE = 10.0
_PAUSE_AFTER_FAULT = float(DependencyError.retry_after)
_LARGEST = 1024 * 1024
_LEEWAY = 30

_T = TypeVar("_T")

_log = logging.getLogger(__name__)


class _Discovery(msgspec.Struct):
    """What is read of a discovery document (OpenID Connect Discovery 1.0, section 3)."""

    jwks_uri: str


class _KeySet(msgspec.Struct):
    """A JWK set (RFC 7517, section 5), whose keys PyJWT reads."""

    keys: list[Any]


class TokenVerifier:
    """Checks tokens of one issuer with its public keys.

    `keep_keys` fetches the keys at once and then every hour. A token whose key is known never waits
    for the issuer: while the issuer is away, the keys that it last gave count. A token whose key is
    not known has them fetched again, once in 10 s at most and for all that wait together.

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
        self._asked_at: float | None = None
        self._fault: str | None = None
        self._fetching = Shared(self._fetch, "keys of the issuer")

    async def keep_keys(self) -> NoReturn:
        """Fetch the keys, and again every hour, until cancelled."""
        try:
            await repeat(
                self._renew,
                _LIFETIME,
                what=f"the keys of {self._issuer} cannot be renewed",
                log=_log,
                at_once=True,
                backoff=_BACKOFF,
                foreseen=(DependencyError,),
            )
        finally:
            await self._fetching.aclose()

    async def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token.

        Raises
        ------
        UnauthenticatedError
            If it is not a valid token of the issuer for this audience.
        DependencyError
            If the issuer's keys cannot be had, so that nobody can tell.
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
        if kid not in self._keys:
            await self._look_again()
        if kid not in self._keys:
            raise UnauthenticatedError("the bearer token is signed with a key that is not known")
        return self._keys[kid]

    async def _look_again(self) -> None:
        """Renew the keys, unless that has just been tried."""
        pause = _SHORTEST_PAUSE if self._fault is None else _PAUSE_AFTER_FAULT
        recently = self._asked_at is not None and time.monotonic() - self._asked_at < pause
        if self._fetching.under_way or not recently:
            await self._renew()
        elif self._fault is not None:
            raise DependencyError(DEPENDENCY, self._fault)

    async def _renew(self) -> None:
        """Fetch the keys, together with everybody who wants them now.

        Raises
        ------
        DependencyError
            If they cannot be had.
        """
        await self._fetching.get()
        if self._fault is not None:
            raise DependencyError(DEPENDENCY, self._fault)

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(_TIMEOUT), httpx.AsyncClient(timeout=_TIMEOUT) as client:
                url = self._jwks_url
                if url is None:
                    where = self._issuer.rstrip("/") + "/.well-known/openid-configuration"
                    url = (await _get(client, where, _Discovery)).jwks_uri
                found = [_readable(key) for key in (await _get(client, url, _KeySet)).keys]
            keys = {key.key_id: key for key in found if key is not None}
            if not keys:
                raise ValueError(f"{url} has no public key that can be used")
        except Exception as error:  # whatever an issuer answers, the service goes on
            detail = f"{type(error).__name__}: {error}"
            self._fault = f"the keys of {self._issuer} cannot be had: {detail}"
        else:
            self._keys, self._fault = keys, None
        finally:
            self._asked_at = time.monotonic()


def _readable(key: Any) -> jwt.PyJWK | None:
    """A public key; None for what is not one, beside which others may be good."""
    try:
        found = jwt.PyJWK(key)
    except Exception:  # PyJWT lets through what its algorithms and cryptography raise
        return None
    # A private key cannot verify, and nobody should publish one.
    public = found.key_type in _PUBLIC and "d" not in key
    return found if public and isinstance(found.key_id, str | None) else None


async def _get(client: httpx.AsyncClient, url: str, kind: type[_T]) -> _T:
    """A document; its shape is what is asked for.

    Raises
    ------
    httpx.HTTPError, ValueError
        If it cannot be had, has another shape, or is too large.
    """
    content = bytearray()
    async with client.stream("GET", url) as response:
        response.raise_for_status()
        async for part in response.aiter_bytes():
            content += part
            if len(content) > _LARGEST:
                raise ValueError(f"{url} answers more than {_LARGEST} bytes")
    return msgspec.json.decode(bytes(content), type=kind)
