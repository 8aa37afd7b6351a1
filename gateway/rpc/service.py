"""The gRPC service."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import (
    AsyncExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from functools import partial
from typing import Any, TypeAlias

import grpc
import msgspec
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from uuid_utils.compat import uuid7

from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.gateway.compute import compute
from astrotriton.gateway.context import Context
from astrotriton.gateway.deadline import deadline
from astrotriton.gateway.errors import (
    BusyError,
    ForbiddenError,
    GatewayError,
    RunGivenUpError,
    UnauthenticatedError,
    UploadTimeoutError,
    problem_of,
)
from astrotriton.gateway.keys import Scope
from astrotriton.gateway.observability.logs import request_id
from astrotriton.gateway.pace import Pace
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
from astrotriton.gateway.services.admission import Place
from astrotriton.gateway.services.runs import check_key
from astrotriton.wire.runs import InferResponse as Answer

NAME: str = DESCRIPTOR.services_by_name["Detections"].full_name

_PART = 1000
_HEALTH_PAUSE = 5.0
_WATCH_PAUSE = 1.0
_LARGEST_ANSWER = 256 * 1024 * 1024
_CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

#: Messages of `Infer` and `InferStream` that arrive at a time, and of methods that are open to all.
_ARRIVING, _ARRIVING_OPEN = 32, 16
_UPLOADING = 64  # calls of `InferUpload` of which pieces arrive, at a time
_OPEN_CALLS = 128  # of these methods, at a time
# What a message costs beside its bytes, so that nobody sends a million empty ones.
_OVERHEAD = 1024
_STREAMS = 100  # calls at a time on one connection
_IDLE = 300.0  # seconds that a connection without a call is kept
_PING, _PING_TIMEOUT = 60.0, 20.0

_Call: TypeAlias = grpc.aio.ServicerContext
_Requests: TypeAlias = AsyncIterator[bytes]
#: Reads the messages of a call, which a place holds.
_Read: TypeAlias = Callable[[Place], Awaitable[list[bytes]]]
#: Reads what is left of them, and throws it away.
_Rest: TypeAlias = Callable[[], Awaitable[None]] | None
#: In the order in which they came.
_Tasks: TypeAlias = dict[asyncio.Task[Any], None]

_log = logging.getLogger(__name__)


class _Service:
    """The methods. A request is read once the caller is known, so that strangers fill no memory.

    To gRPC each method therefore takes a stream of messages, of which two take one and no more.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._arriving: Counter[str] = Counter()

    @property
    def handlers(self) -> Any:
        """What a server is given."""
        methods = {
            "Infer": grpc.stream_unary_rpc_method_handler(
                self.infer, response_serializer=InferResponse.SerializeToString
            ),
            "InferStream": grpc.stream_stream_rpc_method_handler(
                self.infer_stream, response_serializer=InferEvent.SerializeToString
            ),
            "InferUpload": grpc.stream_stream_rpc_method_handler(
                self.infer_upload, response_serializer=InferEvent.SerializeToString
            ),
        }
        return grpc.method_handlers_generic_handler(NAME, methods)

    async def infer(self, requests: _Requests, call: _Call) -> InferResponse:
        """Score an exposure."""
        async with _answering(call):
            run = await self._score(partial(self._whole, requests), call, lambda done, of: None)
            return InferResponse(
                run=from_run(run),
                detections=await compute(from_detections, run.detections),
            )

    async def infer_stream(self, requests: _Requests, call: _Call) -> AsyncIterator[InferEvent]:
        """Score an exposure, and tell how far that is."""
        async with aclosing(self._score_telling(partial(self._whole, requests), call)) as events:
            async for event in events:
                yield event

    async def infer_upload(self, requests: _Requests, call: _Call) -> AsyncIterator[InferEvent]:
        """Score an exposure that comes in pieces, and tell how far that is."""
        read, rest = partial(self._pieces, requests), partial(self._throw_away, requests)
        async with aclosing(self._score_telling(read, call, rest)) as events:
            async for event in events:
                yield event

    async def _score_telling(
        self, read: _Read, call: _Call, rest: _Rest = None
    ) -> AsyncGenerator[InferEvent]:
        async with _answering(call, rest):
            told: asyncio.Queue[Progress] = asyncio.Queue(1)

            def progress(done: int, of: int) -> None:
                # Only the last matters to a caller who reads slowly.
                if told.full():
                    told.get_nowait()
                told.put_nowait(Progress(done=done, of=of))

            scoring = asyncio.create_task(self._score(read, call, progress))
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

    async def _score(self, read: _Read, call: _Call, progress: Any) -> Answer:
        context = self._context
        caller = await self._admit(call, "infer")
        key = check_key(_metadata(call, "idempotency-key"))
        left = call.time_remaining()
        most = context.settings.request_timeout
        async with AsyncExitStack() as held:
            await held.enter_async_context(deadline(most if left is None else min(left, most)))
            await held.enter_async_context(context.access.working(caller))
            place = await held.enter_async_context(context.admission.arrive(caller.subject))
            pieces = await read(place)
            if not pieces:
                raise InputError("missing-message", "request", "send an InferRequest")
            place.take()
            submission = await to_submission(pieces, context.settings, context.readers)
            asked = await context.runs.run_now(submission, place, caller.subject, key, progress)
        if asked.result is None:
            raise RunGivenUpError(f"run {asked.run_id} of this key is in the background; ask later")
        return asked.result

    async def _whole(self, requests: _Requests, place: Place) -> list[bytes]:
        """The one message of a call; nobody sees how it comes, so that few may at a time.

        Raises
        ------
        BusyError
            If as many arrive already.
        UploadTimeoutError
            If it takes too long.
        InputError
            If another one follows.
        """
        seconds = self._context.settings.upload_timeout
        found: list[bytes] = []
        try:
            with self._one_of("messages", _ARRIVING):
                async with asyncio.timeout(seconds):
                    async for request in requests:
                        if found:
                            raise InputError("repeated-message", "request", "send one message")
                        place.hold(len(request))
                        found.append(request)
        except TimeoutError:
            raise UploadTimeoutError(f"the message took over {seconds:g} s") from None
        return found

    async def _pieces(self, requests: _Requests, place: Place) -> list[bytes]:
        """The messages of a call, which must keep coming.

        Nobody sees how each of them comes, so that few calls may send some at a time.

        Raises
        ------
        BusyError
            If as many calls send theirs already.
        UploadTimeoutError
            If they come too slowly.
        TooLargeError
            If they are too large.
        """
        settings = self._context.settings
        pace = Pace(settings.min_upload_rate, settings.upload_grace)
        found: list[bytes] = []
        came = 0
        try:
            with self._one_of("uploads", _UPLOADING):
                async with asyncio.timeout(settings.upload_timeout):
                    while (piece := await pace.wait(anext(requests, None), _size)) is not None:
                        came += len(piece) + _OVERHEAD
                        if came > settings.max_body:
                            raise TooLargeError("exposure", f"over {settings.max_body} bytes")
                        place.hold(len(piece) + _OVERHEAD)
                        found.append(piece)
        except UploadTimeoutError:
            raise UploadTimeoutError(
                f"a piece took over {settings.upload_grace:g} s, or small ones came with under "
                f"{settings.min_upload_rate} bytes a second: send pieces of 64 KiB to 1 MiB"
            ) from None
        except TimeoutError:
            raise UploadTimeoutError(
                f"the pieces took over {settings.upload_timeout:g} s"
            ) from None
        return found

    @contextmanager
    def _one_of(self, what: str, most: int) -> Iterator[None]:
        if self._arriving[what] >= most:
            raise BusyError(f"{most} {what} are arriving; try again later")
        self._arriving[what] += 1
        try:
            yield
        finally:
            self._arriving[what] -= 1

    async def _throw_away(self, requests: _Requests) -> None:
        """Read on until the caller pauses: one who is refused while it sends may not be told.

        Of few at a time, too.
        """
        settings = self._context.settings
        pace = Pace(settings.min_upload_rate, settings.upload_grace)
        came = 0
        with (
            suppress(TimeoutError, UploadTimeoutError, BusyError),
            self._one_of("refused uploads", _UPLOADING),
        ):
            async with asyncio.timeout(settings.linger_timeout):
                while (piece := await pace.wait(anext(requests, None), _size)) is not None:
                    came += len(piece) + _OVERHEAD
                    if came > 2 * settings.max_body:
                        return

    async def _admit(self, call: _Call, scope: Scope) -> Identity:
        return await self._context.access.admit(_metadata(call, "authorization"), scope)


@asynccontextmanager
async def _answering(call: _Call, rest: _Rest = None) -> AsyncIterator[None]:
    """Give the call an id, and turn what goes wrong in it into its status.

    What one who may call still sends is read before that, by ``rest``.
    """
    # Each call is a task of its own, so that the id ends with it.
    request_id.set(str(uuid7()))
    try:
        yield
    except (grpc.aio.AbortError, asyncio.CancelledError, GeneratorExit):
        raise
    except Exception as error:  # whatever it is, the caller is told as over HTTP
        if rest is not None and not isinstance(error, (UnauthenticatedError, ForbiddenError)):
            await rest()
        await _abort(call, error)


async def _abort(call: _Call, error: Exception) -> None:
    problem = problem_of(error)
    # Metadata are ASCII, so that other letters are escaped.
    trailing = [("problem", json.dumps(msgspec.to_builtins(problem)))]
    if isinstance(error, GatewayError) and "Retry-After" in error.headers:
        trailing.append(("retry-after", error.headers["Retry-After"]))
    code = _CODES.get(problem.status, grpc.StatusCode.INTERNAL)
    await call.abort(code, problem.detail, trailing_metadata=tuple(trailing))


def _size(message: bytes | None) -> int:
    return len(message or b"")


class _OpenMethods(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Bounds the methods that ask nobody who they are: health and reflection.

    Each message is awaited as long as headers are, and each answer must be taken as soon. Where too
    many messages are awaited, or too many calls are open, the oldest is dropped, so that those who
    send theirs at once are answered.

    Parameters
    ----------
    patience
        Seconds.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._waiting: _Tasks = {}
        self._open: _Tasks = {}

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Wrap the handler of a method, unless it is one of ours."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(f"/{NAME}/"):
            return handler

        async def answer(requests: _Requests, call: _Call) -> None:
            try:
                with _newest(self._open, _OPEN_CALLS):
                    first = await self._next(requests)
                    async with aclosing(self._answers(first, requests, handler, call)) as answers:
                        async for one in answers:
                            async with asyncio.timeout(self._patience):
                                await call.write(one)
            except StopAsyncIteration:
                await call.abort(grpc.StatusCode.INVALID_ARGUMENT, "send a message")
            except TimeoutError:
                await call.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED, f"a message took over {self._patience:g} s"
                )
            except BusyError as error:
                await _abort(call, error)

        return grpc.stream_stream_rpc_method_handler(
            answer, response_serializer=handler.response_serializer
        )

    async def _answers(
        self, first: bytes, requests: _Requests, handler: Any, call: _Call
    ) -> AsyncGenerator[Any]:
        if handler.request_streaming:
            answers = handler.stream_stream(self._all(first, requests, handler), call)
        elif handler.response_streaming:
            answers = handler.unary_stream(handler.request_deserializer(first), call)
        else:
            yield await handler.unary_unary(handler.request_deserializer(first), call)
            return
        async for answer in answers:
            yield answer

    async def _all(self, first: bytes, requests: _Requests, handler: Any) -> AsyncIterator[Any]:
        yield handler.request_deserializer(first)
        with suppress(StopAsyncIteration, TimeoutError):
            while True:
                yield handler.request_deserializer(await self._next(requests))

    async def _next(self, requests: _Requests) -> bytes:
        with _newest(self._waiting, _ARRIVING_OPEN):
            async with asyncio.timeout(self._patience):
                return await anext(requests)


@contextmanager
def _newest(tasks: _Tasks, most: int) -> Iterator[None]:
    """Count this task among so many at most while the block runs; the oldest is given up.

    Raises
    ------
    BusyError
        If this one is, for newer ones.
    """
    task = asyncio.current_task()
    assert task is not None
    if len(tasks) >= most:
        oldest = next(iter(tasks))
        # At once, so that the next one of this turn cancels another.
        del tasks[oldest]
        oldest.cancel()
    tasks[task] = None
    try:
        yield
    except asyncio.CancelledError:
        if task in tasks:
            raise
        # gRPC would not end the call of a task that is cancelled.
        task.uncancel()
        raise BusyError("newer calls took the place of this one; try again later") from None
    finally:
        tasks.pop(task, None)


class _Health(health.aio.HealthServicer):  # type: ignore[misc]
    """Looks at the status for those who watch it.

    gRPC's own tells them of it under a lock, so that one who does not read keeps it from all.
    """

    async def Watch(self, request: Any, context: _Call) -> AsyncIterator[Any]:  # noqa: N802
        """The status now, and whenever it changes."""
        kinds = health_pb2.HealthCheckResponse
        told = None
        while True:
            status = self._server_status.get(request.service, kinds.SERVICE_UNKNOWN)
            if status != told:
                yield kinds(status=status)
            told = status
            await asyncio.sleep(_WATCH_PAUSE)


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
            ("grpc.max_receive_message_length", settings.max_message),
            ("grpc.max_send_message_length", _LARGEST_ANSWER),
            ("grpc.so_reuseport", 0),
            ("grpc.max_metadata_size", settings.max_header_bytes),
            ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
            ("grpc.max_concurrent_streams", _STREAMS),
            ("grpc.server_handshake_timeout_ms", int(1000 * settings.header_timeout)),
            ("grpc.max_connection_idle_ms", int(1000 * _IDLE)),
            ("grpc.keepalive_time_ms", int(1000 * _PING)),
            ("grpc.keepalive_timeout_ms", int(1000 * _PING_TIMEOUT)),
        ],
        interceptors=(_OpenMethods(settings.header_timeout),),
    )
    server.add_generic_rpc_handlers((_Service(context).handlers,))
    status = _Health()
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
