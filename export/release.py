"""A registered version all the way: gates, publishing, going live."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from astrotriton.export import approval as approvals
from astrotriton.export import convert, pipeline, promotion, registry
from astrotriton.export.approval import Wait
from astrotriton.export.champions import champions_of
from astrotriton.export.errors import ExportError, GateError, RejectedError, UnapprovedError
from astrotriton.export.gates.version import GoldenTiles, Progress, Trial
from astrotriton.export.gateway_routes import Mode
from astrotriton.export.manifest import Manifest
from astrotriton.export.precision import Precision
from astrotriton.export.promotion import Live, Serving
from astrotriton.export.registry import RegisteredVersion
from astrotriton.export.repository import Repository
from astrotriton.export.sources import Converter

Step = Literal["verified", "published", "approved"] | promotion.Step
# How long these take says nothing: the gates tell it one by one, and a person takes their time.
_NOT_TIMED = ("verified", "approved")


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a version is to be: the champion, or with a mode a challenger.

    One that is ``automatic`` is a canary that the gateway ends by itself.
    """

    mode: Mode | None = None
    fraction: float = 1.0
    automatic: bool = False


@dataclass(frozen=True, slots=True)
class Released:
    """A version that is live, with the gates that let it."""

    version: int
    manifest: Manifest
    live: Live


def release(
    uri: str,
    serving: Serving,
    tiles: GoldenTiles,
    trial: Trial,
    role: Role,
    *,
    precision: Precision = "fp32",
    on_progress: Progress = lambda _: None,
    on_step: Callable[[Step], None] = lambda _: None,
    converter: Converter = convert.convert,
    approval: Wait | None = None,
) -> Released:
    """Promote a registered version, once it has passed every gate.

    Gates that it passed already, against the same champion, are not asked again.

    Parameters
    ----------
    uri
        As `astrotriton.export.registry.resolve` takes it.
    serving
        Where it shall be live.
    tiles, trial, precision, converter
        As `astrotriton.export.pipeline.verify` takes them.
    role
        Champion or challenger.
    on_progress
        Told what comes next, in a few words.
    on_step
        Told of every step that is done.
    approval
        How to wait for a person's word, once the gates have passed; None: nobody is asked.

    Raises
    ------
    GateError
        If a gate refuses.
    RejectedError
        If a person does. The version is then no longer published.
    UnapprovedError
        If nobody has answered in time. The version stays published, and nothing serves it.
    ExportError
        If a step fails. The version before then serves, and everything is as it was.
    """
    registered = registry.resolve(uri)
    repository = serving.repository
    taken: dict[str, float] = {}
    on_step = _timed(on_step, taken)
    manifest = blessing(registered, serving, precision)
    added = False
    if manifest is None:
        candidate = pipeline.verify(
            registered,
            repository,
            serving.settings,
            tiles,
            trial=trial,
            profile=serving.profile,
            precision=precision,
            on_progress=on_progress,
            converter=converter,
        )
        manifest, added = candidate.manifest, not candidate.published_before
        on_step("verified")
        pipeline.publish(candidate, repository, on_progress)
    on_step("published")
    card = repository.read(registered.name, registered.version)
    try:
        if approval is not None:
            manifest = approvals.wait(
                registered, card, manifest, repository, approval, on_progress=on_progress
            )
            on_step("approved")
        if role.mode is None:
            live = promotion.promote(
                card,
                serving,
                judged_against=manifest.champion,
                on_progress=on_progress,
                on_step=on_step,
            )
        else:
            live = promotion.challenge(
                card,
                serving,
                role.mode,
                role.fraction,
                automatic=role.automatic,
                judged_against=manifest.champion,
                on_progress=on_progress,
                on_step=on_step,
            )
    except BaseException as error:
        rejected = isinstance(error, RejectedError) and not _served_before(registered, repository)
        if (added and not isinstance(error, UnapprovedError)) or rejected:
            # Refused if it is listed after all, as the gateway may ask it.
            with contextlib.suppress(ExportError):
                repository.remove(registered.name, registered.version)
        raise
    if not added:
        taken.pop("published")
    with contextlib.suppress(ExportError):
        if approval is not None:
            approvals.close(registered)
        registry.log_seconds(registered, taken)
    return Released(registered.version, manifest, live)


def _timed(on_step: Callable[[Step], None], taken: dict[str, float]) -> Callable[[Step], None]:
    """Tell of steps, and keep the seconds from each to the one before."""
    since = time.monotonic()

    def tell(step: Step) -> None:
        nonlocal since
        if step not in _NOT_TIMED:
            taken[step] = round(time.monotonic() - since, 3)
        on_step(step)
        since = time.monotonic()

    return tell


def _served_before(registered: RegisteredVersion, repository: Repository) -> bool:
    """Whether a version is or was the champion."""
    return registered.version in champions_of(registered.name, repository).versions


def blessing(
    registered: RegisteredVersion, serving: Serving, precision: Precision
) -> Manifest | None:
    """The manifest that lets a version go live now; None if its gates must be asked (again).

    Raises
    ------
    GateError
        If it was refused, and is published nevertheless.
    """
    if not serving.repository.holds(registered.name, registered.version):
        return None
    manifest = pipeline.read_manifest(registered, serving.repository)
    if manifest is None:
        return None
    if manifest.failed:
        raise GateError(manifest)
    champion = champions_of(registered.name, serving.repository).rival(registered.version)
    asked = (champion, serving.profile, precision)
    current = (manifest.champion, manifest.profile, manifest.precision) == asked
    return manifest if manifest.blessed and current else None
