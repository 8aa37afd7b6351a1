"""The client, against a server that answers as it is told."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner

from astrotriton.cli import main
from astrotriton.client import (
    AsyncClient,
    CandidateIn,
    Client,
    InferRequest,
    ProblemError,
    Retries,
    UnfinishedError,
    UnreachableError,
)
from astrotriton.gateway.http.examples import RESPONSE

QUICK = Retries(attempts=4, first_pause=0.01, longest_pause=0.02)
Answer = tuple[int, dict[str, str], bytes]
OK: Answer = (200, {}, json.dumps(RESPONSE).encode())
RUN_ID = str(RESPONSE["run_id"])
PROBLEM = {
    "type": "urn:astrotriton:problem:run-given-up",
    "title": "The run was given up",
    "status": 503,
    "detail": "its gateway ended",
}


def state(status: str, progress: float, **more: object) -> Answer:
    run = {
        "run_id": RUN_ID,
        "status": status,
        "progress": progress,
        "created_at": RESPONSE["created_at"],
        "finished_at": None,
        **more,
    }
    return (202 if status == "queued" else 200), {}, json.dumps(run).encode()


FULL: Answer = (
    503,
    {"Retry-After": "0"},
    b'{"type": "urn:astrotriton:problem:busy", "title": "The service is full", "status": 503}',
)


class Server(ThreadingHTTPServer):
    """Gives its answers one after the other; None: it hangs up."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[Answer | None] = []
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((dict(self.headers), body))
        answer = self.server.answers.pop(0)
        if answer is None:
            self.close_connection = True
            return
        status, headers, content = answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        if self.path == "/health/live":
            self.send_response(200)
            self.end_headers()
        else:
            self.do_POST()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_threshold_beside_a_false_discovery_rate_is_refused_before_it_is_sent() -> None:
    with pytest.raises(ValueError, match="confidence_threshold: leave it out, or leave out max_"):
        InferRequest(confidence_threshold=0.5, max_false_discovery_rate=0.1)
    options = ["--threshold", "0.5", "--max-false-discovery-rate", "0.1"]
    refused = CliRunner().invoke(main, ["score", __file__, "--url", "http://127.0.0.1:9", *options])
    assert refused.exit_code == 1
    assert "leave out --threshold or --max-false-discovery-rate" in refused.output


def score(server: Server, **options: object) -> object:
    with Client(server.url, **{"retries": QUICK, **options}) as client:
        return client.score(b"SIMPLE  =")


def score_asynchronously(server: Server, **options: object) -> object:
    async def run() -> object:
        async with AsyncClient(server.url, **{"retries": QUICK, **options}) as client:
            return await client.score(b"SIMPLE  =")

    return asyncio.run(run())


both = pytest.mark.parametrize("call", [score, score_asynchronously], ids=["sync", "async"])


@both
def test_a_run_comes_back_typed(server: Server, call: Callable) -> None:
    server.answers = [OK]
    run = call(server, token="secret")
    assert str(run.run_id) == RESPONSE["run_id"]
    assert run.detections[0].confidence == RESPONSE["detections"][0]["confidence"]
    headers, body = server.seen[0]
    assert headers["Authorization"] == "Bearer secret"
    assert b'name="exposure"' in body


@both
def test_it_comes_again_when_told_to_with_the_same_key(server: Server, call: Callable) -> None:
    server.answers = [FULL, None, FULL, OK]
    call(server)
    assert len(server.seen) == 4
    assert len({headers["Idempotency-Key"] for headers, _ in server.seen}) == 1
    assert len({body for _, body in server.seen}) == 1


@both
def test_it_comes_again_after_the_network_stood_still(server: Server, call: Callable) -> None:
    server.answers = [(408, {}, b'{"type": "urn:astrotriton:problem:upload-timeout"}'), OK]
    assert str(call(server).run_id) == RUN_ID
    assert len(server.seen) == 2


@both
def test_it_gives_up(server: Server, call: Callable) -> None:
    server.answers = [FULL] * 4
    with pytest.raises(ProblemError) as caught:
        call(server)
    assert (caught.value.status, caught.value.code) == (503, "busy")
    server.answers = [None] * 4
    with pytest.raises(UnreachableError, match="after 4 attempts"):
        call(server)


@both
@pytest.mark.parametrize("status", [400, 404, 413, 422, 500, 502])
def test_what_cannot_pass_is_not_repeated(server: Server, call: Callable, status: int) -> None:
    problem = {
        "type": "urn:astrotriton:problem:not-fits",
        "title": "The input cannot be scored",
        "detail": "neither FITS nor .npy",
        "field": "exposure",
    }
    server.answers = [(status, {}, json.dumps(problem).encode())]
    with pytest.raises(ProblemError, match=r"exposure: neither FITS nor \.npy") as caught:
        call(server)
    assert caught.value.code == "not-fits"
    assert len(server.seen) == 1


@both
def test_a_pause_beyond_the_deadline_is_not_waited_for(server: Server, call: Callable) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    for pause in ("3600", later):
        server.answers = [(429, {"Retry-After": pause}, b"not json")]
        with pytest.raises(ProblemError, match="not json") as caught:
            call(server, deadline=10.0)
        assert caught.value.status == 429


@both
def test_nobody_there(server: Server, call: Callable) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(UnreachableError, match=server.url):
        call(server)


@both
def test_silence_ends_with_the_deadline(call: Callable) -> None:
    class Silent(_Handler):
        def do_POST(self) -> None:
            time.sleep(1.0)

    with Server() as silent:
        silent.RequestHandlerClass = Silent
        threading.Thread(target=silent.serve_forever, args=(0.01,)).start()
        with pytest.raises(UnreachableError):
            call(silent, deadline=0.2)
        silent.shutdown()


@both
def test_a_run_in_the_background_is_waited_for(server: Server, call: Callable) -> None:
    server.answers = [
        state("queued", 0.0),
        state("running", 0.5),
        FULL,
        state("complete", 1.0, result=RESPONSE),
    ]
    assert str(call(server).run_id) == RUN_ID


@both
def test_a_failed_run_is_its_problem(server: Server, call: Callable) -> None:
    server.answers = [state("queued", 0.0), state("failed", 0.5, problem=PROBLEM)]
    with pytest.raises(ProblemError, match="its gateway ended") as caught:
        call(server)
    assert caught.value.code == "run-given-up"


@both
def test_a_run_that_does_not_end_in_time_goes_on(server: Server, call: Callable) -> None:
    server.answers = [state("queued", 0.0), *[state("running", 0.5)] * 9]
    with pytest.raises(UnfinishedError, match=RUN_ID):
        call(server, deadline=0.3)


def test_a_submitted_run_tells_its_progress(server: Server) -> None:
    server.answers = [
        state("queued", 0.0),
        state("running", 0.25),
        state("complete", 1.0, result=RESPONSE),
    ]
    seen: list[float] = []
    with Client(server.url) as client:
        run_id = client.submit(b"SIMPLE  =")
        client.wait(run_id, seen.append)
    assert server.seen[0][0]["Prefer"] == "respond-async"
    assert seen == [0.25, 1.0]


def test_other_forms_come_as_they_are(server: Server) -> None:
    server.answers = [(200, {}, b"<VOTABLE/>")]
    with Client(server.url) as client:
        assert client.score_as("votable", b"SIMPLE  =") == b"<VOTABLE/>"
    assert server.seen[0][0]["Accept"] == "application/x-votable+xml"


def test_candidates_are_sent(server: Server) -> None:
    server.answers = [OK]
    request = InferRequest(candidates=[CandidateIn(x=1.5, y=2.0, id="a")])
    with Client(server.url) as client:
        client.score(b"SIMPLE  =", request, mask=b"mask", psf=b"psf", template=b"ref")
    _, body = server.seen[0]
    assert b'name="psf"' in body
    assert b'name="template"' in body
    assert b'"x":1.5' in body
    assert b'name="mask"' in body


def test_a_candidate_that_is_no_number_is_sent_as_null(server: Server) -> None:
    server.answers = [OK]
    request = InferRequest(candidates=[CandidateIn(x=float("nan"), y=2.0)])
    with Client(server.url) as client:
        client.score(b"SIMPLE  =", request)
    assert b'"x":null,"y":2.0' in server.seen[0][1]


def test_the_command_sends_the_table_and_what_it_is_told(server: Server, tmp_path: Path) -> None:
    server.answers = [(200, {}, b"<VOTABLE/>")]
    table = tmp_path / "stars.cat"
    table.write_bytes(b"# 1 X_IMAGE\n# 2 Y_IMAGE\n1 2\n")
    options = ["--candidates", str(table), "--format", "votable", "--zero-point", "25"]
    options += ["--filter", "r", "--mjd-mid", "60000.5", "--time-scale", "TAI"]
    command = ["score", __file__, "--url", server.url, *options]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    _, body = server.seen[0]
    assert b'name="candidates"; filename="stars.cat"' in body
    assert b"1 2\n" in body
    assert b'"zero_point":25.0' in body
    assert b'"mjd_mid":60000.5,"time_scale":"TAI"' in body
    assert b'"filter":"r"' in body
    refused = CliRunner().invoke(main, [*command, "--mjd-mid", "2460001"])
    assert refused.exit_code == 1
    assert "2400000.5" in refused.output


FOLLOWING = "01a22602-81a6-7799-a507-178736994792"


def stored(rank: int) -> dict[str, object]:
    shared = ("run_id", "created_at", "threshold", "model", "exposure")
    return RESPONSE["detections"][0] | {name: RESPONSE[name] for name in shared} | {"rank": rank}


def page(ranks: list[int], following: str | None) -> Answer:
    content = {"detections": list(map(stored, ranks)), "next": following}
    return 200, {}, json.dumps(content).encode()


def ranks(server: Server) -> list[int]:
    with Client(server.url, retries=QUICK) as client:
        return [one.rank for one in client.cone((10.0, 20.0), 0.1, is_real=True)]


def ranks_asynchronously(server: Server) -> list[int]:
    async def run() -> list[int]:
        async with AsyncClient(server.url, retries=QUICK) as client:
            return [one.rank async for one in client.cone((10.0, 20.0), 0.1, is_real=True)]

    return asyncio.run(run())


@pytest.mark.parametrize("call", [ranks, ranks_asynchronously], ids=["sync", "async"])
def test_pages_follow_one_another(server: Server, call: Callable[[Server], list[int]]) -> None:
    server.answers = [page([1, 2], FOLLOWING), FULL, page([3], None)]
    assert call(server) == [1, 2, 3]
    assert len(server.seen) == 3


def test_the_next_page_waits_until_it_is_wanted(server: Server) -> None:
    server.answers = [page([1, 2], FOLLOWING)]
    with Client(server.url, retries=QUICK) as client:
        assert next(client.detections()).rank == 1
    assert len(server.seen) == 1
