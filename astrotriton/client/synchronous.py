"""The synchronous client."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Self, Unpack
from uuid import UUID

import httpx
import msgspec

from astrotriton.client import calls
from astrotriton.client.calls import FORMATS, File, Options
from astrotriton.client.errors import UnfinishedError
from astrotriton.client.exchange import Outcome, Retries, Send, exchange
from astrotriton.wire.detections import DetectionPage, StoredDetection
from astrotriton.wire.runs import InferRequest, InferResponse, RunListed, RunPage, RunStatus


class Client:
    """A client of one gateway; use it as a context manager.

    Every call raises `ProblemError` if the gateway answers with an error, and `UnreachableError` if
    it does not answer.

    Parameters
    ----------
    url
        The gateway's address, ``http://host:port``.
    token
        API key or OIDC token, if the gateway asks for one.
    deadline
        Seconds that a call may take, retries included.
    retries
        When and how often a request is sent again.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        deadline: float = 300.0,
        retries: Retries | None = None,
    ) -> None:
        self._deadline = deadline
        self._retries = retries or Retries()
        self._http = httpx.Client(base_url=url, headers=calls.headers(token))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def score(
        self,
        exposure: File,
        request: InferRequest | None = None,
        **options: Unpack[Options],
    ) -> InferResponse:
        """Score an exposure, and wait until that is done.

        Parameters
        ----------
        exposure
            A FITS or ``.npy`` file: its path, or its content.
        request
            Candidates and how to score; None: the gateway extracts the sources itself.
        **options
            See `Options`.

        Raises
        ------
        UnfinishedError
            If the gateway scores it in the background, and has not ended in time.
        """
        response = self._call(calls.infer(self._http, FORMATS["json"], exposure, request, options))
        if (run_id := calls.accepted(response)) is not None:
            return self.wait(run_id)
        return msgspec.json.decode(response.content, type=InferResponse)

    def score_as(
        self,
        form: str,
        exposure: File,
        request: InferRequest | None = None,
        **options: Unpack[Options],
    ) -> bytes:
        """Score an exposure, and get the answer as it comes: a name in `FORMATS` says in what form.

        The other parameters are those of `score`.
        """
        media_type = FORMATS[form]
        response = self._call(calls.infer(self._http, media_type, exposure, request, options))
        if (run_id := calls.accepted(response)) is None:
            return response.content
        run = self.wait(run_id)
        if form == "json":
            return msgspec.json.encode(run)
        return self._call(calls.run(self._http, run_id, media_type)).content

    def submit(
        self,
        exposure: File,
        request: InferRequest | None = None,
        **options: Unpack[Options],
    ) -> UUID:
        """Let an exposure be scored in the background.

        The parameters are those of `score`.

        Returns
        -------
        UUID
            The run's id, for `run` and `wait`.
        """
        call = calls.infer(self._http, FORMATS["json"], exposure, request, options, background=True)
        return calls.run_of(self._call(call))

    def run(self, run_id: UUID | str) -> RunStatus:
        """A run, and how far it is."""
        response = self._call(calls.run(self._http, run_id))
        return msgspec.json.decode(response.content, type=RunStatus)

    def wait(
        self, run_id: UUID | str, on_progress: Callable[[float], None] = lambda done: None
    ) -> InferResponse:
        """Wait for a run.

        Parameters
        ----------
        run_id
            Of a run that was submitted.
        on_progress
            Told the share of the tiles that the network has answered, 0 to 1.

        Raises
        ------
        ProblemError
            If it failed.
        UnfinishedError
            If it has not ended within the client's deadline.
        """
        end = time.monotonic() + self._deadline
        for pause in calls.pauses():
            run = self.run(run_id)
            on_progress(run.progress)
            if (result := calls.result(run)) is not None:
                return result
            if time.monotonic() + pause >= end:
                break
            time.sleep(pause)
        raise UnfinishedError(f"run {run_id} has not ended within {self._deadline:g} s")

    def detection(self, detection_id: UUID | str) -> StoredDetection:
        """A detection by its id."""
        response = self._call(self._http.build_request("GET", f"/detections/{detection_id}"))
        return msgspec.json.decode(response.content, type=StoredDetection)

    def detections(self, **query: Any) -> Iterator[StoredDetection]:
        """All detections that match, page by page as they are asked for.

        Parameters
        ----------
        **query
            As ``GET /detections/`` takes them, but ``columns``: ``night="2026-11-24"``,
            ``sort="-snr"``; times are `datetime` with a zone. ``limit`` is how many come at a time.
            In the order of commits it ends with what there is now: come back with ``after``, the
            id of the last one.
        """
        while True:
            response = self._call(calls.listed(self._http, "/detections/", query))
            page = msgspec.json.decode(response.content, type=DetectionPage)
            yield from page.detections
            if page.next is None or not page.detections:
                return
            query["after"] = page.next

    def runs(self, **query: Any) -> Iterator[RunListed]:
        """All runs that match, the newest first, as `detections` does for ``GET /runs/``."""
        while True:
            response = self._call(calls.listed(self._http, "/runs/", query))
            page = msgspec.json.decode(response.content, type=RunPage)
            yield from page.runs
            if page.next is None:
                return
            query["after"] = page.next

    def cancel(self, run_id: UUID | str) -> RunStatus:
        """End a run in the background; nothing of it is stored.

        Raises
        ------
        ProblemError
            If it has ended, 409.
        """
        response = self._call(self._http.build_request("POST", f"/runs/{run_id}/cancel"))
        return msgspec.json.decode(response.content, type=RunStatus)

    def _call(self, request: httpx.Request) -> httpx.Response:
        steps = exchange(str(request.url), self._retries, self._deadline)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                response: httpx.Response = done.value
                return response
            if isinstance(step, Send):
                outcome = self._send(request, step.timeout)
            else:
                time.sleep(step.seconds)
                outcome = None

    def _send(self, request: httpx.Request, timeout: float) -> Outcome:
        request.extensions["timeout"] = httpx.Timeout(timeout).as_dict()
        request.headers["Request-Timeout"] = f"{timeout:.3f}"
        try:
            return self._http.send(request)
        except httpx.TransportError as error:
            return error
