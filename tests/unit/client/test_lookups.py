"""Every call that both clients share: the same names, and what is sent for them."""

import inspect
import json
from datetime import UTC, datetime

import httpx
import pytest
from astropy import units as u
from astropy.coordinates import Galactic, SkyCoord

from astrotriton.client import AsyncClient, Client, UnreadableError, lookups
from astrotriton.client.asynchronous_lookups import Lookups as AsyncLookups
from astrotriton.client.results import Run, decoded
from astrotriton.client.synchronous_lookups import Lookups
from astrotriton.wire.drift import BaselineIn
from astrotriton.wire.validation import ValidateIn

HTTP = httpx.Client(base_url="http://gateway/prefix")
ONE = "019ac5b0-6f0e-7c11-9d0a-2f4f1d9e7b52"


def public(kind: type) -> dict[str, list[str]]:
    return {
        name: list(inspect.signature(member).parameters)
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }


def test_both_clients_have_the_same_calls() -> None:
    assert public(Lookups) == public(AsyncLookups)
    assert set(public(Client)) == set(public(AsyncClient))


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lookups.detection(ONE), f"GET /detections/{ONE}"),
        (
            lookups.stream({"after": ONE, "is_real": True}),
            f"GET /detections/stream?after={ONE}&is_real=true",
        ),
        (lookups.explain(ONE), f"GET /detections/{ONE}/confidence"),
        (lookups.cutout(ONE), f"GET /detections/{ONE}/cutout.png"),
        (lookups.cutout(ONE, "science"), f"GET /detections/{ONE}/cutout.png?plane=science"),
        (lookups.cutout_file(ONE), f"GET /detections/{ONE}/cutout.fits"),
        (
            lookups.labels({"label": "real", "history": True}),
            "GET /labels/?limit=1000&label=real&history=true",
        ),
        (lookups.label(ONE, "real", None), f"PATCH /detections/{ONE}"),
        (lookups.models(), "GET /models/"),
        (lookups.model("unet@champion"), "GET /models/unet@champion"),
        (lookups.model("a/b:1"), "GET /models/a%2Fb:1"),
        (lookups.route("unet"), "GET /models/unet/route"),
        (lookups.canary("unet"), "GET /models/unet/canary"),
        (lookups.performance("unet:1", "24h"), "GET /models/unet:1/performance?window=24h"),
        (
            lookups.agreement("unet:1", "unet:2", "7d"),
            "GET /models/unet:1/agreement?with=unet%3A2&window=7d",
        ),
        (lookups.validations("unet:1", 5), "GET /models/unet:1/validations?limit=5"),
        (lookups.validate("unet:1", ValidateIn()), "POST /models/unet:1/validate"),
        (lookups.validation(ONE), f"GET /validations/{ONE}"),
        (lookups.check_drift("unet:1", "24h"), "POST /models/unet:1/drift?window=24h"),
        (lookups.drift_checks("unet:1", 5), "GET /models/unet:1/drift?limit=5"),
        (
            lookups.accept_drift("unet:1", BaselineIn(window=None)),
            "PUT /models/unet:1/drift/baseline",
        ),
        (lookups.drift(ONE), f"GET /drift/{ONE}"),
        (lookups.dependencies(), "GET /health/dependencies"),
        (
            lookups.find(
                {"is_real": True, "since": datetime(2026, 1, 1, tzinfo=UTC), "filter": "g r"}
            ),
            "GET /detections/?limit=1000&is_real=true&since=2026-01-01T00%3A00%3A00%2B00%3A00"
            "&filter=g%20r",
        ),
    ],
    ids=str,
)
def test_a_call_is_a_request(call: lookups.Call, line: str) -> None:
    request = call.request(HTTP)
    sent = httpx.URL(line.partition(" ")[2])
    assert f"{request.method} {request.url.path}" == f"{call.method} /prefix{sent.path}"
    assert dict(request.url.params) == dict(sent.params)


def test_a_label_is_json() -> None:
    request = lookups.label(ONE, None, "seen twice").request(HTTP)
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.content) == {"label": None, "comment": "seen twice"}


def test_a_cone_is_of_any_frame_and_unit() -> None:
    plain = lookups.cone((350.0, -10.0), 0.5)
    assert plain == {"ra": 350.0, "dec": -10.0, "radius": 0.5}
    place = SkyCoord(350.0, -10.0, unit="deg").transform_to(Galactic())
    assert lookups.cone(place, 30 * u.arcmin) == pytest.approx(plain)
    assert lookups.cone((-10.0, -10.0), 0.5) == plain


def test_an_answer_that_is_something_else_is_told() -> None:
    with pytest.raises(UnreadableError, match=r"the answer is no .*Run"):
        decoded(b"<html>", Run)
