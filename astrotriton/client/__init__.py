"""A client of the gateway, synchronous and asynchronous.

>>> from astrotriton.client import CandidateIn, Client, InferRequest
>>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     candidates = [CandidateIn(x=128.9, y=127.7)]
...     run = client.score("exposure.fits", InferRequest(candidates=candidates))
...     print(run.detections[0].confidence)
"""

from astrotriton.client.asynchronous import AsyncClient
from astrotriton.client.calls import FORMATS, File, Options, is_reference
from astrotriton.client.errors import (
    ClientError,
    ProblemError,
    UnfinishedError,
    UnreachableError,
)
from astrotriton.client.exchange import Retries
from astrotriton.client.night import LedgerEntry, Night, NightError, score_night
from astrotriton.client.synchronous import Client
from astrotriton.wire.detections import CandidateIn, ScoredDetection
from astrotriton.wire.runs import InferRequest, InferResponse, RunStatus

__all__ = [
    "FORMATS",
    "AsyncClient",
    "CandidateIn",
    "Client",
    "ClientError",
    "File",
    "InferRequest",
    "InferResponse",
    "LedgerEntry",
    "Night",
    "NightError",
    "Options",
    "ProblemError",
    "Retries",
    "RunStatus",
    "ScoredDetection",
    "UnfinishedError",
    "UnreachableError",
    "is_reference",
    "score_night",
]
