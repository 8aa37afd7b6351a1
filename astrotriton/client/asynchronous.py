"""The asynchronous client: what `Client` is, to be awaited."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Self, Unpack
from uuid import UUID

import httpx
import msgspec

from astrotriton.client import calls
from astrotriton.client.asynchronous_lookups import Lookups
from astrotriton.client.calls import FORMATS, Options, Progress, untold
from astrotriton.client.contents import File
from astrotriton.client.errors import UnfinishedError
from astrotriton.client.events import SILENCE
from astrotriton.client.exchange import Outcome, Retries, Send, exchange
from astrotriton.client.results import Run, RunState, decoded, joined
from astrotriton.wire.runs import InferRequest
from astrotriton.wire.stamps import InferStamps, InferStampsResponse


class AsyncClient(Lookups):
    """A client of one gateway; use it as an asynchronous context manager.

    Every call raises `ProblemError` if the gateway answers with an error, and `UnreachableError` if
    it does not answer.

    The parameters are those of `Client`.
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
        self._http = httpx.AsyncClient(base_url=url, headers=calls.headers(token))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def score(
        self,
        exposure: File,
        request: InferRequest | None = None,
        *,
        on_progress: Progress = untold,
        background: bool = False,
        **options: Unpack[Options],
    ) -> Run:
        """Score an exposure, as `Client.score` does."""
        response = await self._call(
            calls.infer(
                self._http, FORMATS["json"], exposure, request, options, background=background
            )
        )
        if (run_id := calls.accepted(response)) is not None:
            run = await self.wait(run_id, partial(on_progress, run_id))
            return joined(run, exposure, None)
        return joined(decoded(response.content, Run), exposure, None)

    async def score_as(
        self,
        form: str,
        exposure: File,
        request: InferRequest | None = None,
        *,
        on_progress: Progress = untold,
        background: bool = False,
        **options: Unpack[Options],
    ) -> bytes:
        """Score an exposure, and get the answer as it comes, as `Client.score_as` does."""
        media_type = FORMATS[form]
        call = calls.infer(
            self._http, media_type, exposure, request, options, background=background
        )
        response = await self._call(call)
        if (run_id := calls.accepted(response)) is None:
            return response.content
        run = await self.wait(run_id, partial(on_progress, run_id))
        if form == "json":
            return msgspec.json.encode(run)
        return (await self._call(calls.run(self._http, run_id, media_type))).content

    async def score_stamps(
        self,
        stamps: File,
        request: InferStamps | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> InferStampsResponse:
        """Score a cube of stamps, as `Client.score_stamps` does."""
        call = calls.infer_stamps(self._http, stamps, request, idempotency_key)
        response = await self._call(call)
        return msgspec.json.decode(response.content, type=InferStampsResponse)

    async def submit(
        self,
        exposure: File,
        request: InferRequest | None = None,
        **options: Unpack[Options],
    ) -> UUID:
        """Let an exposure be scored in the background, as `Client.submit` does."""
        call = calls.infer(self._http, FORMATS["json"], exposure, request, options, background=True)
        return calls.run_of(await self._call(call))

    async def run(self, run_id: UUID | str) -> RunState:
        """A run, and how far it is."""
        response = await self._call(calls.run(self._http, run_id))
        return decoded(response.content, RunState)

    async def wait(
        self, run_id: UUID | str, on_progress: Callable[[float], None] = lambda done: None
    ) -> Run:
        """Wait for a run, as `Client.wait` does."""
        end = time.monotonic() + self._deadline
        for pause in calls.pauses():
            run = await self.run(run_id)
            on_progress(run.progress)
            if (result := calls.result(run)) is not None:
                return joined(result, None, None)
            if time.monotonic() + pause >= end:
                break
            await asyncio.sleep(pause)
        raise UnfinishedError(f"run {run_id} has not ended within {self._deadline:g} s")

    async def _open(self, request: httpx.Request) -> httpx.Response:
        """An answer whose body is read as it comes."""
        return await self._call(request, stream=True)

    async def _call(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        steps = exchange(str(request.url), self._retries, self._deadline)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                response: httpx.Response = done.value
                return response
            if isinstance(step, Send):
                outcome = await self._send(request, step.timeout, stream=stream)
            else:
                await asyncio.sleep(step.seconds)
                outcome = None

    async def _send(self, request: httpx.Request, timeout: float, *, stream: bool) -> Outcome:
        limits = httpx.Timeout(timeout, read=SILENCE) if stream else httpx.Timeout(timeout)
        request.extensions["timeout"] = limits.as_dict()
        request.headers["Request-Timeout"] = f"{timeout:.3f}"
        try:
            async with asyncio.timeout(timeout):
                response = await self._http.send(request, stream=stream)
                if response.is_error:
                    await response.aread()
                return response
        except TimeoutError:
            return httpx.ReadTimeout("no answer in time")
        except httpx.TransportError as error:
            return error
