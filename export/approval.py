"""A person's word on a version whose gates have passed, as tags of the version in MLflow.

Who asks notes the time of the gates in a tag. So an answer counts for these gates alone, and one
that came while nobody was waiting counts as well. MLflow's permissions say who may tag a version.
"""

import shlex
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import mlflow
import msgspec

from astrotriton.detection.card import ModelCard
from astrotriton.export import registry
from astrotriton.export.champions import champions_of, keep_champions
from astrotriton.export.errors import RegistryError, RejectedError, UnapprovedError
from astrotriton.export.gates.version import Progress
from astrotriton.export.manifest import Approval, Manifest
from astrotriton.export.promotion import check_rival
from astrotriton.export.registry import RegisteredVersion
from astrotriton.export.repository import MANIFEST_FILE, Repository

APPROVED_BY, REJECTED_BY = "astrotriton.approved_by", "astrotriton.rejected_by"
APPROVED_AT, ASKED_FOR = "astrotriton.approved_at", "astrotriton.approval_asked_for"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How long to wait for a person, and how often to look, in seconds."""

    timeout: float
    interval: float = 5.0


def wait(
    registered: RegisteredVersion,
    card: ModelCard,
    manifest: Manifest,
    repository: Repository,
    how: Wait,
    *,
    on_progress: Progress = lambda _: None,
) -> Manifest:
    """Wait until somebody has tagged a version as approved or rejected.

    While MLflow is away, it waits on.

    Parameters
    ----------
    registered, card
        The version, published.
    manifest
        Of its gates, which have passed.
    repository
        Where the manifest lies, and who is the champion.
    how
        How long.
    on_progress
        Told what it waits for, and how to answer.

    Returns
    -------
    Manifest
        With the approval; MLflow vouches for it, and it lies beside the version.

    Raises
    ------
    RejectedError
        If it was rejected.
    UnapprovedError
        If nobody has answered in time, or the wait was interrupted.
    ServingError
        If the champion is another than the one that the version was judged beside.
    UnknownVersionError
        If the version was deleted in MLflow.
    """
    deadline = time.monotonic() + how.timeout
    away = asked = False
    on_progress("asking for approval")
    try:
        while True:
            try:
                if not asked:
                    manifest = _ask(registered, manifest, repository)
                    asked = True
                    if manifest.approval is None:
                        _tell(registered, how, on_progress)
                if (approved := _answer(registered, manifest)) is not None:
                    _keep(registered, approved, repository)
                    assert approved.approval is not None
                    on_progress(f"approved by {approved.approval.by}")
                    return approved
                if away:
                    on_progress("MLflow answers again")
                away = False
            except RegistryError as error:
                if not away:
                    on_progress(f"waiting on while MLflow is away: {error}")
                away = True
            check_rival(card, champions_of(card.name, repository), manifest.champion)
            if time.monotonic() >= deadline:
                raise UnapprovedError(_unapproved(registered, f"within {_span(how.timeout)}"))
            time.sleep(min(how.interval, max(0.0, deadline - time.monotonic())))
    except KeyboardInterrupt:
        raise UnapprovedError(_unapproved(registered, "before it was interrupted")) from None


def close(registered: RegisteredVersion) -> None:
    """Ask no longer: the answer was acted upon, and another promotion needs another one.

    Raises
    ------
    RegistryError
        If MLflow cannot be reached or refuses.
    """
    if ASKED_FOR in registry.tags(registered):
        registry.set_tags(registered, {ASKED_FOR: None})


def _ask(registered: RegisteredVersion, manifest: Manifest, repository: Repository) -> Manifest:
    """Ask for an answer to these gates, unless that was done.

    Answers to other gates, and those that were acted upon already, are taken away.
    """
    tags, now = registry.tags(registered), manifest.made_at.isoformat()
    champions = champions_of(registered.name, repository)
    acted_upon = registered.version in champions.retired
    if tags.get(ASKED_FOR) == now and not acted_upon:
        return manifest
    stale = (tag for tag in (APPROVED_BY, REJECTED_BY, APPROVED_AT) if tag in tags)
    registry.set_tags(registered, dict.fromkeys(stale) | {ASKED_FOR: now})
    if manifest.approval is not None:
        manifest = msgspec.structs.replace(manifest, approval=None)
        _attach(registered, manifest, repository)
    if acted_upon:
        keep_champions(registered.name, champions.asked_again(registered.version), repository)
    return manifest


def _answer(registered: RegisteredVersion, manifest: Manifest) -> Manifest | None:
    """The manifest with its approval; None while nobody has answered."""
    tags = registry.tags(registered)
    if rejected := tags.get(REJECTED_BY, "").strip():
        raise RejectedError(
            f"{registered.name} version {registered.version} was rejected by {rejected}, with the"
            f" tag {REJECTED_BY} in MLflow; delete the tag if the version shall be asked for again"
        )
    if manifest.approval is not None:
        return manifest
    if approved := tags.get(APPROVED_BY, "").strip():
        given = Approval(by=approved, at=datetime.now(UTC).replace(microsecond=0))
        return msgspec.structs.replace(manifest, approval=given)
    return None


def _keep(registered: RegisteredVersion, manifest: Manifest, repository: Repository) -> None:
    """Keep who approved and when, in MLflow and then beside the version."""
    assert manifest.approval is not None
    registry.set_tags(registered, {APPROVED_AT: manifest.approval.at.isoformat()})
    _attach(registered, manifest, repository)


def _attach(registered: RegisteredVersion, manifest: Manifest, repository: Repository) -> None:
    registry.vouch(registered, manifest)
    repository.attach(registered.name, registered.version, MANIFEST_FILE, manifest.to_json())


def _tell(registered: RegisteredVersion, how: Wait, on_progress: Progress) -> None:
    until = datetime.now(UTC) + timedelta(seconds=how.timeout)
    title = f"{registered.name} version {registered.version}"
    on_progress(f"its gates have passed; waiting for approval until {until:%Y-%m-%d %H:%M} UTC")
    on_progress(f"to approve {title}: {_command(registered, APPROVED_BY)}")
    on_progress(f"to reject it: {_command(registered, REJECTED_BY)}")


def _command(registered: RegisteredVersion, tag: str) -> str:
    """A line for the shell that tags a version."""
    where = shlex.quote(f"MLFLOW_TRACKING_URI={mlflow.get_tracking_uri()}")
    name, version = registered.in_mlflow, str(registered.version)
    line = (
        "from mlflow import MlflowClient;"
        f" MlflowClient().set_model_version_tag({name!r}, {version!r}, {tag!r}, 'YOUR NAME')"
    )
    return f"env {where} python -c {shlex.quote(line)}"


def _unapproved(registered: RegisteredVersion, when: str) -> str:
    return (
        f"nobody has approved {registered.name} version {registered.version} {when}; it stays"
        " published and nothing serves it; the same command waits again, and does not repeat the"
        " gates"
    )


def _span(seconds: float) -> str:
    return f"{seconds / 3600:g} h" if seconds >= 3600 else f"{seconds:g} s"
