"""The synchronous client."""

import time
from collections.abc import Callable
from functools import partial
from typing import Self, Unpack
from uuid import UUID

import httpx
import msgspec

from astrotriton.client import calls
from astrotriton.client.calls import FORMATS, Options, Progress, untold
from astrotriton.client.contents import File
from astrotriton.client.errors import UnfinishedError
from astrotriton.client.events import SILENCE
from astrotriton.client.exchange import Outcome, Retries, Send, exchange
from astrotriton.client.results import Run, RunState, decoded, joined
from astrotriton.client.synchronous_lookups import Lookups
from astrotriton.wire.runs import InferRequest
from astrotriton.wire.stamps import InferStamps, InferStampsResponse


class Client(Lookups):
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
        *,
        on_progress: Progress = untold,
        background: bool = False,
        **options: Unpack[Options],
    ) -> Run:
        """Score an exposure, and wait until that is done.

        Parameters
        ----------
        exposure
            A FITS or ``.npy`` file: its path, or its content.
        request
            Candidates and how to score; None: the gateway extracts the sources itself.
        on_progress
            Told the run and the share of its tiles that the network has answered, 0 to 1, while the
            gateway scores it in the background, as it does large ones.
        background
            Have it scored there however small it is; the run then outlives this call.
        **options
            See `Options`.

        Raises
        ------
        UnfinishedError
            If the gateway scores it in the background, and has not ended in time.
        """
        response = self._call(
            calls.infer(
                self._http, FORMATS["json"], exposure, request, options, background=background
            )
        )
        if (run_id := calls.accepted(response)) is not None:
            run = self.wait(run_id, partial(on_progress, run_id))
            return joined(run, exposure, self.cutout)
        return joined(decoded(response.content, Run), exposure, self.cutout)

    def score_as(
        self,
        form: str,
        exposure: File,
        request: InferRequest | None = None,
        *,
        on_progress: Progress = untold,
        background: bool = False,
        **options: Unpack[Options],
    ) -> bytes:
        """Score an exposure, and get the answer as it comes: a name in `FORMATS` says in what form.

        The other parameters are those of `score`.
        """
        media_type = FORMATS[form]
        call = calls.infer(
            self._http, media_type, exposure, request, options, background=background
        )
        response = self._call(call)
        if (run_id := calls.accepted(response)) is None:
            return response.content
        run = self.wait(run_id, partial(on_progress, run_id))
        if form == "json":
            return msgspec.json.encode(run)
        return self._call(calls.run(self._http, run_id, media_type)).content

    def score_stamps(
        self,
        stamps: File,
        request: InferStamps | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> InferStampsResponse:
        """Score a cube of stamps, each as if it were sent alone.

        Parameters
        ----------
        stamps
            A FITS or ``.npy`` file of the axes stamps, rows, columns: its path, or its content.
        request
            What is known of each stamp, and how to score; None: each has a candidate in its middle.
        idempotency_key
            As of `Options`.

        Returns
        -------
        InferStampsResponse
            The stamps in their order, each with its run, or with the problem that it has.
        """
        call = calls.infer_stamps(self._http, stamps, request, idempotency_key)
        response = self._call(call)
        return msgspec.json.decode(response.content, type=InferStampsResponse)

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

    def run(self, run_id: UUID | str) -> RunState:
        """A run, and how far it is."""
        response = self._call(calls.run(self._http, run_id))
        return decoded(response.content, RunState)

    def wait(
        self, run_id: UUID | str, on_progress: Callable[[float], None] = lambda done: None
    ) -> Run:
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
                return joined(result, None, self.cutout)
            if time.monotonic() + pause >= end:
                break
            time.sleep(pause)
        raise UnfinishedError(f"run {run_id} has not ended within {self._deadline:g} s")

    def _open(self, request: httpx.Request) -> httpx.Response:
        """An answer whose body is read as it comes."""
        return self._call(request, stream=True)

    def _call(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        steps = exchange(str(request.url), self._retries, self._deadline)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                response: httpx.Response = done.value
                return response
            if isinstance(step, Send):
                outcome = self._send(request, step.timeout, stream=stream)
            else:
                time.sleep(step.seconds)
                outcome = None

    def _send(self, request: httpx.Request, timeout: float, *, stream: bool) -> Outcome:
        limits = httpx.Timeout(timeout, read=SILENCE) if stream else httpx.Timeout(timeout)
        request.extensions["timeout"] = limits.as_dict()
        request.headers["Request-Timeout"] = f"{timeout:.3f}"
        try:
            response = self._http.send(request, stream=stream)
            if response.is_error:
                response.read()
            return response
        except httpx.TransportError as error:
            return error
