"""What people build themselves: an ASGI endpoint that calls ``keras.predict`` for each request.

The model is loaded once, which is kinder than the design asks for.
"""

import asyncio
import json
import os
from typing import Any

import mlflow.keras
from litestar import Litestar, Request, get, post

from benchmarks.speed.services.patches import maxima, read

_model = mlflow.keras.load_model(os.environ["MODEL"])


@post("/infer", status_code=200)
async def infer(request: Request[Any, Any, Any]) -> list[float]:
    """The probability of each candidate."""
    form = await request.form()
    content, candidates = await form["exposure"].read(), form["candidates"]
    positions = json.loads(candidates) if isinstance(candidates, str) else candidates
    return await asyncio.to_thread(_score, content, positions)


def _score(content: bytes, positions: list[list[float]]) -> list[float]:
    return maxima(_model.predict(read(content), verbose=0), positions)


@get("/ready")
async def ready() -> None:
    """Answer."""


app = Litestar([infer, ready])
