"""The gRPC service."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import grpc
import msgspec
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from uuid_utils.compat import uuid7

from astrotriton.gateway.compute import compute
from astrotriton.gateway.context import Context
from astrotriton.gateway.deadline import deadline
from astrotriton.gateway.errors import GatewayError, RunGivenUpError, problem_of
from astrotriton.gateway.keys import Scope
from astrotriton.gateway.observability.logs import request_id
from astrotriton.gateway.periodic import repeat
from astrotriton.gateway.rpc.detections_pb2 import (
    DESCRIPTOR,
    DetectionPart,
    InferEvent,
    InferResponse,
    Progress,
)
from astrotriton.gateway.rpc.messages import from_detections, from_run, to_submission
from astrotriton.gateway.services.access import Identity
from astrotriton.gateway.services.runs import check_key
from astrotriton.wire.runs import InferResponse as Answer

NAME: str = DESCRIPTOR.services_by_name["Detections"].full_name

_PART = 1000
_HEALTH_PAUSE = 5.0
_LARGEST_ANSWER = 256 * 1024 * 1024
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

_Call: TypeAlias = grpc.aio.ServicerContext

_log = logging.getLogger(__name__)


class _Service:
    """The methods, which take a request as it came: it is read once the caller is known."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def handlers(self) -> Any:
        """What a server is given."""
        methods = {
            "Infer": grpc.unary_unary_rpc_method_handler(
                self.infer, response_serializer=InferResponse.SerializeToString
            ),
            "InferStream": grpc.unary_stream_rpc_method_handler(
                self.infer_stream, response_serializer=InferEvent.SerializeToString
            ),
        }
        return grpc.method_handlers_generic_handler(NAME, methods)

    async def infer(self, request: bytes, call: _Call) -> InferResponse:
        """Score an exposure."""
        async with _answering(call):
            run = await self._score(request, call, lambda done, of: None)
            return InferResponse(
                run=from_run(run),
                detections=await compute(from_detections, run.detections),
            )

    async def infer_stream(self, request: bytes, call: _Call) -> AsyncIterator[InferEvent]:
        """Score an exposure, and tell how far that is."""
        async with _answering(call):
            told: asyncio.Queue[Progress] = asyncio.Queue(1)

            def progress(done: int, of: int) -> None:
                # Only the last matters to a caller who reads slowly.
                if told.full():
                    told.get_nowait()
                told.put_nowait(Progress(done=done, of=of))

            scoring = asyncio.create_task(self._score(request, call, progress))
            try:
                while not scoring.done():
                    telling = asyncio.create_task(told.get())
                    await asyncio.wait((scoring, telling), return_when=asyncio.FIRST_COMPLETED)
                    if telling.done():
                        yield InferEvent(progress=telling.result())
                    else:
                        telling.cancel()
                run = await scoring
            finally:
                scoring.cancel()
            yield InferEvent(run=from_run(run))
            for start in range(0, len(run.detections), _PART):
                part = run.detections[start : start + _PART]
                found = await compute(from_detections, part)
                yield InferEvent(part=DetectionPart(detections=found))

    async def _score(self, request: bytes, call: _Call, progress: Any) -> Answer:
        context = self._context
        caller = await self._admit(call, "infer")
        key = check_key(_metadata(call, "idempotency-key"))
        left = call.time_remaining()
        most = context.settings.request_timeout
        async with AsyncExitStack() as held:
            await held.enter_async_context(deadline(most if left is None else min(left, most)))
            await held.enter_async_context(context.access.working(caller))
            place = await held.enter_async_context(context.admission.enter())
            place.hold(len(request))
            submission = await compute(to_submission, request, context.settings.max_bytes)
            asked = await context.runs.run_now(submission, place, caller.subject, key, progress)
        if asked.result is None:
            raise RunGivenUpError(f"run {asked.run_id} of this key is in the background; ask later")
        return asked.result

    async def _admit(self, call: _Call, scope: Scope) -> Identity:
        return await self._context.access.admit(_metadata(call, "authorization"), scope)


@asynccontextmanager
async def _answering(call: _Call) -> AsyncIterator[None]:
    """Give the call an id, and turn what goes wrong in it into its status."""
    # Each call is a task of its own, so that the id ends with it.
    request_id.set(str(uuid7()))
    try:
        yield
    except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit):
        raise
    except Exception as error:  # whatever it is, the caller is told as over HTTP
        await _abort(call, error)


async def _abort(call: _Call, error: Exception) -> None:
    problem = problem_of(error)
    # Metadata are ASCII, so that other letters are escaped.
    trailing = [("problem", json.dumps(msgspec.to_builtins(problem)))]
    if isinstance(error, GatewayError) and "Retry-After" in error.headers:
        trailing.append(("retry-after", error.headers["Retry-After"]))
    code = _CODES.get(problem.status, grpc.StatusCode.INTERNAL)
    await call.abort(code, problem.detail, trailing_metadata=tuple(trailing))


def _metadata(call: _Call, name: str) -> str | None:
    for key, value in call.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode("latin-1")
    return None


@asynccontextmanager
async def serve_rpc(context: Context) -> AsyncIterator[None]:
    """The gRPC service of the settings, with health and reflection, until the block ends."""
    settings = context.settings
    if settings.grpc_port is None:
        yield
        return
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", settings.max_body),
            ("grpc.max_send_message_length", _LARGEST_ANSWER),
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=settings.max_runs + settings.max_waiting + 32,
    )
    server.add_generic_rpc_handlers((_Service(context).handlers,))
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    reflection.enable_server_reflection(
        (NAME, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    server.add_insecure_port(f"{settings.host}:{settings.grpc_port}")
    for name in ("", NAME):
        await status.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
    await server.start()
    _log.info("gRPC on %s:%d", settings.host, settings.grpc_port)
    watch = asyncio.create_task(_tell_health(context, status), name="gRPC health")
    try:
        yield
    finally:
        watch.cancel()
        await status.enter_graceful_shutdown()
        await server.stop(settings.shutdown_timeout)


async def _tell_health(context: Context, status: Any) -> None:
    kinds = health_pb2.HealthCheckResponse

    async def tell() -> None:
        ready = False
        try:
            ready = (await context.health.ready()).status == "ready"
        finally:
            for name in ("", NAME):
                await status.set(name, kinds.SERVING if ready else kinds.NOT_SERVING)

    await repeat(
        tell,
        _HEALTH_PAUSE,
        what="it is not known whether the service is ready",
        log=_log,
        at_once=True,
        foreseen=(),
    )
