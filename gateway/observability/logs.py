"""Logs: one JSON object a line, each with the id of the request that it belongs to."""

import logging
from contextvars import ContextVar
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS

from astrotriton.gateway.observability.telemetry import tracing

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class RequestIdFilter(logging.Filter):
    """Adds the current request's id to every record, and its trace's where there is one."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        record.request_id = request_id.get()
        if (trace := tracing.trace_id()) is not None:
            record.trace_id = trace
        return True


class WithoutQueryFilter(logging.Filter):
    """Leaves the query out of the server's line for a request: a caller may put a key into it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass; the third argument of the server's is path and query."""
        if isinstance(record.args, tuple) and len(record.args) == 5:
            before, (path, *after) = record.args[:2], record.args[2:]
            record.args = (*before, str(path).partition("?")[0], *after)
        return True


def logging_config(level: str) -> dict[str, Any]:
    """The ``logging`` configuration of the service and of uvicorn."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {
            "request_id": {"()": RequestIdFilter},
            "without_query": {"()": WithoutQueryFilter},
        },
        "formatters": {
            "json": {
                "()": "pythonjsonlogger.orjson.OrjsonFormatter",
                "fmt": "{levelname}{name}{message}{request_id}",
                "style": "{",
                "timestamp": "time",
                "rename_fields": {"levelname": "level", "name": "logger"},
                "reserved_attrs": [*RESERVED_ATTRS, "color_message"],
            }
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "json",
                "filters": ["request_id"],
            }
        },
        "root": {"level": level, "handlers": ["stderr"]},
        "loggers": {
            # uvicorn's own default would add handlers of its own.
            name: {"handlers": [], "level": level, "propagate": True, "filters": filters}
            for name, filters in (
                ("uvicorn", []),
                ("uvicorn.error", []),
                ("uvicorn.access", ["without_query"]),
            )
        },
    }
