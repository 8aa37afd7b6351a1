"""Logs and request ids."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from litestar import Litestar, get
from litestar.testing import TestClient

from astrotriton.gateway.http.middleware import EdgeMiddleware

ROOT = Path(__file__).parents[4]


@get("/", sync_to_thread=False)
def hello() -> str:
    logging.getLogger("gateway.test").info("hello %s", "world", extra={"run": 7})
    return "hello"


@pytest.fixture
def client():
    with TestClient(EdgeMiddleware(Litestar([hello], logging_config=None))) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/nowhere"])
def test_every_answer_has_the_callers_id(client, path):
    assert client.get(path, headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"


@pytest.mark.parametrize("given", [None, "", "two words", "x" * 129, 'a"b'])
def test_an_id_is_made_where_none_is_usable(client, given):
    headers = {} if given is None else {"X-Request-ID": given}
    made = client.get("/", headers=headers).headers["x-request-id"]
    assert made != given
    assert len(made) == 36


def test_a_line_is_a_json_object_with_the_id():
    """In a process of its own: to configure logging closes what other libraries log to."""
    code = """
import logging.config

from litestar import Litestar
from litestar.testing import TestClient

from astrotriton.gateway.observability.logs import logging_config
from astrotriton.gateway.http.middleware import EdgeMiddleware
from tests.unit.gateway.observability.test_logs import hello

logging.config.dictConfig(logging_config("INFO"))
with TestClient(EdgeMiddleware(Litestar([hello], logging_config=None))) as client:
    client.get("/", headers={"X-Request-ID": "abc-1"})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    (line,) = [line for line in lines if line["logger"] == "gateway.test"]
    assert line["message"] == "hello world"
    assert line["request_id"] == "abc-1"
    assert line["level"] == "INFO"
    assert line["run"] == 7
    assert line["time"]
