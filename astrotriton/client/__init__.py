"""A client of the gateway, synchronous and asynchronous.

>>> from astrotriton.client import CandidateIn, Client, InferRequest
>>> with Client("http://127.0.0.1:8000") as client:  # doctest: +SKIP
...     candidates = [CandidateIn(x=128.9, y=127.7)]
...     run = client.score("exposure.fits", InferRequest(candidates=candidates))
...     print(run.detections[0].confidence)
"""

from astrotriton.client.asynchronous import AsyncClient
from astrotriton.client.calls import FORMATS, Options, is_reference
from astrotriton.client.contents import File
from astrotriton.client.errors import (
    ClientError,
    ProblemError,
    UnfinishedError,
    UnreachableError,
    UnreadableError,
)
from astrotriton.client.exchange import Retries
from astrotriton.client.ledger import LedgerEntry, NightError
from astrotriton.client.lookups import BEGINNING, FollowQuery, LabelQuery, Query, RunQuery
from astrotriton.client.night import Night, score_night
from astrotriton.client.results import Cutout, Detection, FoundDetection, Run, RunState
from astrotriton.client.synchronous import Client
from astrotriton.client.tables import to_pandas, to_table
from astrotriton.wire.detections import CandidateIn, ScoredDetection
from astrotriton.wire.runs import InferRequest, InferResponse, RunStatus
from astrotriton.wire.stamps import InferStamps, InferStampsResponse, ScoredStamp, StampIn

__all__ = [
    "BEGINNING",
    "FORMATS",
    "AsyncClient",
    "CandidateIn",
    "Client",
    "ClientError",
    "Cutout",
    "Detection",
    "File",
    "FollowQuery",
    "FoundDetection",
    "InferRequest",
    "InferResponse",
    "InferStamps",
    "InferStampsResponse",
    "LabelQuery",
    "LedgerEntry",
    "Night",
    "NightError",
    "Options",
    "ProblemError",
    "Query",
    "Retries",
    "Run",
    "RunQuery",
    "RunState",
    "RunStatus",
    "ScoredDetection",
    "ScoredStamp",
    "StampIn",
    "UnfinishedError",
    "UnreachableError",
    "UnreadableError",
    "is_reference",
    "score_night",
    "to_pandas",
    "to_table",
]
