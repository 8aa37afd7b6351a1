"""The asynchronous client: what `Client` is, to be awaited."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
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


class AsyncClient:
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
        **options: Unpack[Options],
    ) -> InferResponse:
        """Score an exposure, as `Client.score` does."""
        response = await self._call(
            calls.infer(self._http, FORMATS["json"], exposure, request, options)
        )
        if (run_id := calls.accepted(response)) is not None:
            return await self.wait(run_id)
        return msgspec.json.decode(response.content, type=InferResponse)

    async def score_as(
        self,
        form: str,
        exposure: File,
        request: InferRequest | None = None,
        **options: Unpack[Options],
    ) -> bytes:
        """Score an exposure, and get the answer as it comes, as `Client.score_as` does."""
        media_type = FORMATS[form]
        response = await self._call(calls.infer(self._http, media_type, exposure, request, options))
        if (run_id := calls.accepted(response)) is None:
            return response.content
        run = await self.wait(run_id)
        if form == "json":
            return msgspec.json.encode(run)
        return (await self._call(calls.run(self._http, run_id, media_type))).content

    async def submit(
        self,
        exposure: File,
        request: InferRequest | None = None,
        **options: Unpack[Options],
    ) -> UUID:
        """Let an exposure be scored in the background, as `Client.submit` does."""
        call = calls.infer(self._http, FORMATS["json"], exposure, request, options, background=True)
        return calls.run_of(await self._call(call))

    async def run(self, run_id: UUID | str) -> RunStatus:
        """A run, and how far it is."""
        response = await self._call(calls.run(self._http, run_id))
        return msgspec.json.decode(response.content, type=RunStatus)

    async def wait(
        self, run_id: UUID | str, on_progress: Callable[[float], None] = lambda done: None
    ) -> InferResponse:
        """Wait for a run, as `Client.wait` does."""
        end = time.monotonic() + self._deadline
        for pause in calls.pauses():
            run = await self.run(run_id)
            on_progress(run.progress)
            if (result := calls.result(run)) is not None:
                return result
            if time.monotonic() + pause >= end:
                break
            await asyncio.sleep(pause)
        raise UnfinishedError(f"run {run_id} has not ended within {self._deadline:g} s")

    async def detection(self, detection_id: UUID | str) -> StoredDetection:
        """A detection by its id."""
        response = await self._call(self._http.build_request("GET", f"/detections/{detection_id}"))
        return msgspec.json.decode(response.content, type=StoredDetection)

    async def detections(self, **query: Any) -> AsyncIterator[StoredDetection]:
        """All detections that match, as `Client.detections` does."""
        while True:
            response = await self._call(calls.listed(self._http, "/detections/", query))
            page = msgspec.json.decode(response.content, type=DetectionPage)
            for one in page.detections:
                yield one
            if page.next is None or not page.detections:
                return
            query["after"] = page.next

    async def runs(self, **query: Any) -> AsyncIterator[RunListed]:
        """All runs that match, as `Client.runs` does."""
        while True:
            response = await self._call(calls.listed(self._http, "/runs/", query))
            page = msgspec.json.decode(response.content, type=RunPage)
            for one in page.runs:
                yield one
            if page.next is None:
                return
            query["after"] = page.next

    async def cancel(self, run_id: UUID | str) -> RunStatus:
        """End a run in the background, as `Client.cancel` does."""
        response = await self._call(self._http.build_request("POST", f"/runs/{run_id}/cancel"))
        return msgspec.json.decode(response.content, type=RunStatus)

    async def _call(self, request: httpx.Request) -> httpx.Response:
        steps = exchange(str(request.url), self._retries, self._deadline)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                response: httpx.Response = done.value
                return response
            if isinstance(step, Send):
                outcome = await self._send(request, step.timeout)
            else:
                await asyncio.sleep(step.seconds)
                outcome = None

    async def _send(self, request: httpx.Request, timeout: float) -> Outcome:
        request.extensions["timeout"] = httpx.Timeout(timeout).as_dict()
        request.headers["Request-Timeout"] = f"{timeout:.3f}"
        try:
            async with asyncio.timeout(timeout):
                return await self._http.send(request)
        except TimeoutError:
            return httpx.ReadTimeout("no answer in time")
        except httpx.TransportError as error:
            return error
