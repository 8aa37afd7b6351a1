"""OpenTelemetry traces, off unless the settings say where to send them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from litestar.types import ASGIApp, Receive, Send

_QUERY = "astrotriton.query_string"


class Tracing:
    """What the rest of the service calls; does nothing until it is started."""

    def __init__(self) -> None:
        self._trace: Any = None
        self._inject: Any = None
        self._tracer: Any = None

    def start(self, endpoint: str) -> None:
        """Send spans on by OTLP over gRPC.

        Raises
        ------
        ImportError
            If the packages of the extra `telemetry` are missing.
        """
        from opentelemetry import propagate, trace
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=Resource.create({"service.name": "astrotriton-gateway"}))
        exporter = OTLPSpanExporter(endpoint, insecure=not endpoint.startswith("https://"))
        provider.add_span_processor(BatchSpanProcessor(exporter))
        trace.set_tracer_provider(provider)
        self._trace, self._inject = trace, propagate.inject
        self._tracer = trace.get_tracer("gateway")

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """The application, each request of which is a span, a child of the caller's.

        A span has the path of its request without the query: a caller may put a key into that.
        """
        if self._tracer is None:
            return app
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware

        async def with_query(scope: Any, receive: Receive, send: Send) -> None:
            if (query := scope.pop(_QUERY, None)) is not None:
                scope["query_string"] = query
            await app(scope, receive, send)

        traced: Any = OpenTelemetryMiddleware(with_query, exclude_spans=["receive", "send"])

        async def without_query(scope: Any, receive: Receive, send: Send) -> None:
            if "query_string" in scope:
                scope[_QUERY], scope["query_string"] = scope["query_string"], b""
            await traced(scope, receive, send)

        return without_query

    def span(self, name: str) -> AbstractContextManager[Any]:
        """A span for the block."""
        if self._tracer is None:
            return nullcontext()
        span: AbstractContextManager[Any] = self._tracer.start_as_current_span(name)
        return span

    def headers(self) -> dict[str, str]:
        """What tells another service which span is its parent (W3C ``traceparent``)."""
        carrier: dict[str, str] = {}
        if self._inject is not None:
            self._inject(carrier)
        return carrier

    def trace_id(self) -> str | None:
        """The current trace, as hexadecimal digits; None outside one."""
        if self._trace is None:
            return None
        context = self._trace.get_current_span().get_span_context()
        return f"{context.trace_id:032x}" if context.is_valid else None


tracing = Tracing()
