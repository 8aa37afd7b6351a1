"""The gateway's calls: what is sent for each, the same for both clients."""

from collections.abc import Callable, Iterator
from typing import Literal, TypedDict
from uuid import UUID, uuid4

import httpx
import msgspec

from astrotriton.client.contents import File, file_of, with_planes
from astrotriton.client.errors import ProblemError
from astrotriton.client.results import Run, RunState
from astrotriton.wire.fields import FieldError
from astrotriton.wire.runs import InferRequest
from astrotriton.wire.stamps import InferStamps

#: Media types that scored detections can be had in, by short name.
FORMATS = {
    "json": "application/json",
    "votable": "application/x-votable+xml",
    "ecsv": "application/x-ecsv",
    "fits": "application/fits",
    "csv": "text/csv",
    "ds9": "application/x-ds9",
}

_PLANES: tuple[Literal["mask", "weight", "psf", "science", "template", "candidates"], ...] = (
    "mask",
    "weight",
    "psf",
    "science",
    "template",
    "candidates",
)


#: Told a run in the background, and the share of its tiles that the network has answered.
Progress = Callable[[UUID, float], None]


def untold(_run: UUID, _share: float) -> None:
    """Nobody wants to know how far a run is."""


class _Reference(msgspec.Struct):
    run_id: UUID


def headers(token: str | None) -> dict[str, str]:
    """What every call carries."""
    return {"Authorization": f"Bearer {token}"} if token else {}


class Options(TypedDict, total=False):
    """What a call to score may be given besides.

    Attributes
    ----------
    mask, weight, psf
        Files with a data-quality plane, a weight map or an image of the PSF, if the exposure does
        not hold them.
    science, template
        The images that the exposure is the difference of, on its pixels, for versions that use
        them.
    candidates
        A table of candidates, in place of those in the request: CSV, ECSV, VOTable, FITS or a
        catalogue of SExtractor.
    idempotency_key
        Names the call: a repetition gets the first answer. Without one, each call has its own, so
        that its retries score the exposure once.
    """

    mask: File
    weight: File
    candidates: File
    psf: File
    science: File
    template: File
    idempotency_key: str


def infer(
    client: httpx.Client | httpx.AsyncClient,
    media_type: str,
    exposure: File,
    request: InferRequest | None,
    options: Options,
    *,
    background: bool = False,
) -> httpx.Request:
    """``POST /detections/infer``; however often it is sent, the exposure is scored once."""
    headers = {
        "Accept": media_type,
        "Idempotency-Key": options.get("idempotency_key") or str(uuid4()),
    }
    if background:
        headers["Prefer"] = "respond-async"
    if is_reference(exposure):
        body = _by_reference(str(exposure), request, options)
        headers["Content-Type"] = "application/json"
        return client.build_request("POST", "/detections/infer", content=body, headers=headers)
    files = {"exposure": file_of("exposure", exposure)}
    for name in _PLANES:
        if name in options:
            files[name] = file_of(name, options[name])
    request = with_planes(exposure, request, set(files))
    if request != InferRequest():
        files["request"] = ("request.json", msgspec.json.encode(request))
    return client.build_request("POST", "/detections/infer", files=files, headers=headers)


def infer_stamps(
    client: httpx.Client | httpx.AsyncClient,
    stamps: File,
    request: InferStamps | None,
    idempotency_key: str | None,
) -> httpx.Request:
    """``POST /detections/infer-stamps``; however often it is sent, a stamp is scored once."""
    files = {"stamps": file_of("stamps", stamps)}
    if request is not None:
        files["request"] = ("request.json", msgspec.json.encode(request))
    headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
    return client.build_request("POST", "/detections/infer-stamps", files=files, headers=headers)


def is_reference(file: File) -> bool:
    """Whether a file lies in an object store, where the gateway reads it."""
    return isinstance(file, str) and file.startswith("s3://")


def _by_reference(exposure: str, request: InferRequest | None, options: Options) -> bytes:
    """The body that names an exposure of an object store, and what belongs to it.

    Raises
    ------
    FieldError
        If something that belongs to it lies elsewhere.
    """
    given = {} if request is None else msgspec.to_builtins(request)
    for name in _PLANES:
        if name not in options:
            continue
        file = options[name]
        if not is_reference(file):
            raise FieldError(name, "give s3://bucket/key: the exposure is read from a store too")
        given["candidates_table" if name == "candidates" else name] = file
    return msgspec.json.encode(given | {"exposure": exposure})


def run(
    client: httpx.Client | httpx.AsyncClient, run_id: UUID | str, media_type: str = FORMATS["json"]
) -> httpx.Request:
    """``GET /runs/{id}``."""
    return client.build_request("GET", f"/runs/{run_id}", headers={"Accept": media_type})


def accepted(response: httpx.Response) -> UUID | None:
    """The run that goes on in the background, if the gateway answered with one."""
    return run_of(response) if response.status_code == httpx.codes.ACCEPTED else None


def run_of(response: httpx.Response) -> UUID:
    """The run that an answer is about, done or not."""
    return msgspec.json.decode(response.content, type=_Reference).run_id


def result(run: RunState) -> Run | None:
    """What a run ended with; None while it goes on.

    Raises
    ------
    ProblemError
        If it failed.
    """
    if run.status == "failed":
        problem = msgspec.to_builtins(run.problem) or {"detail": "the run failed"}
        raise ProblemError(problem.get("status", 500), problem)
    return run.result


def pauses() -> Iterator[float]:
    """Seconds between two looks at a run: short ones first, since most runs are short."""
    pause = 0.1
    while True:
        yield pause
        pause = min(1.5 * pause, 2.0)
