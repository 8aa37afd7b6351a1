"""Commands that bring a version into service, back out of it, and show what is where."""

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import click
import msgspec

from astrotriton.commands.models.options import (
    approval_options,
    calibration_fields_option,
    common_options,
    fields_option,
    precision_option,
    validation_option,
)
from astrotriton.commands.models.settings import (
    known_name,
    known_version,
    quiet,
    serving_of,
    settings_of,
    trial_of,
)
from astrotriton.commands.models.telling import EXIT_CODES, Report, gates_text, live_text
from astrotriton.commands.prevalence import SHARE
from astrotriton.settings import ModelConfig
from astrotriton.wire.models import served_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from astrotriton.export.promotion import Serving
    from astrotriton.export.registry import RegisteredVersion
    from astrotriton.export.release import Released, Role


class _Share(click.ParamType[float | Literal["auto"]]):
    """A share of the runs, or ``auto``."""

    name = "FRACTION|auto"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | Literal["auto"]:
        if value == "auto":
            return "auto"
        return click.FloatRange(0.0, 1.0, min_open=True).convert(value, param, ctx)


@click.command(epilog=EXIT_CODES)
@click.argument("model")
@click.option(
    "--shadow",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    metavar="FRACTION",
    help="Only score this share of the runs with MODEL too, and never answer it.",
)
@click.option(
    "--canary",
    type=_Share(),
    metavar="FRACTION|auto",
    help="Only answer this share of the runs with MODEL. `auto`: the gateway raises the share step "
    "by step and makes MODEL the champion, or sends it back; the command waits for it.",
)
@click.option(
    "--plan",
    "only_plan",
    is_flag=True,
    help="Only say what would be done, and how long each step took before; change nothing.",
)
@click.option(
    "--prevalence",
    type=SHARE,
    metavar="SHARE|estimated|calibrated",
    help="Once MODEL is served, state what share of the sources is real in your survey, for "
    "requests that say none: a share, `estimated` by the gateway over the exposures that it scored "
    "lately, or `calibrated`, as each version was calibrated. Without it, the route keeps what it "
    "says.",
)
@approval_options
@precision_option
@fields_option
@calibration_fields_option
@validation_option
@common_options
def promote(
    model: str,
    shadow: float | None,
    canary: float | Literal["auto"] | None,
    only_plan: bool,
    prevalence: float | Literal["estimated", "calibrated"] | None,
    require_approval: bool,
    approval_timeout: float,
    precision: Any,
    fields: int,
    calibration_fields: int,
    validation: str | None,
    as_json: bool,
    repository: str | None,
) -> None:
    """Make MODEL the champion, once it has passed every gate.

    It goes through the gates, is tried in a sandbox, published, loaded and proven on every Triton;
    then the alias `champion` moves in MLflow, and then the gateway asks it. If a step fails,
    everything is put back; after an interruption the same command finishes the job. MODEL is named
    as for `export`.

    With --require-approval it waits, once the gates have passed, until somebody has set the tag
    astrotriton.approved_by or astrotriton.rejected_by of the version in MLflow to their name.
    """
    if shadow is not None and canary is not None:
        raise click.UsageError("give --shadow or --canary, not both")
    report = Report("promote", as_json)
    with report.telling():
        serving = serving_of(settings_of(repository))
        if prevalence is not None and serving.gateway is None:
            raise click.UsageError("--prevalence needs a gateway: set ASTROTRITON_GATEWAY_URL")
        quiet()
        registered = known_version(model)
        from astrotriton.export.approval import Wait
        from astrotriton.export.release import Released, Role, release

        trial = trial_of(registered, fields, calibration_fields, report, validation)
        role = Role()
        if canary == "auto":
            # The gateway sets the share itself.
            role = Role(mode="canary", fraction=1.0, automatic=True)
        elif canary is not None:
            role = Role(mode="canary", fraction=canary)
        elif shadow is not None:
            role = Role(mode="shadow", fraction=shadow)
        if only_plan:
            from astrotriton.export.plan import plan

            planned = plan(
                registered, serving, trial, role, precision=precision, approval=require_approval
            )
            report.result(planned.text(), **msgspec.to_builtins(planned))
            return
        from astrotriton.training.exposures import golden_tiles

        approval = None
        if require_approval:
            # A request that hangs must not hold up the wait for minutes.
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
            os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
            approval = Wait(timeout=3600.0 * approval_timeout)

        def released_as(role: Role, approval: Wait | None = None) -> Released:
            return release(
                registered.uri,
                serving,
                golden_tiles,
                trial,
                role,
                precision=precision,
                on_progress=report.progress,
                approval=approval,
            )

        if role.automatic:
            released = _by_canary(
                registered, serving, partial(released_as, role, approval), released_as, report
            )
        else:
            released = released_as(role, approval)
        if prevalence is not None and serving.gateway is not None:
            stated = None if prevalence == "calibrated" else prevalence
            serving.gateway.set_prevalence(served_name(registered.name), stated)
            report.progress(f"the route takes the share of real sources as {prevalence}")
        report.result(
            f"{gates_text(released.manifest)}\n{live_text(released.live)}",
            live=msgspec.to_builtins(released.live),
            manifest=msgspec.to_builtins(released.manifest),
        )


def _by_canary(
    registered: "RegisteredVersion",
    serving: "Serving",
    begun: "Callable[[], Released]",
    released_as: "Callable[[Role], Released]",
    report: Report,
) -> "Released":
    """Have a canary make a version the champion, and note what it comes to.

    Called anew, it waits for the one that is under way, or notes what that has come to. A person
    who is asked has approved before the canary begins.
    """
    from astrotriton.export import canary, promotion
    from astrotriton.export.errors import CanaryError, ServingError
    from astrotriton.export.release import Role

    name, version = registered.name, registered.version
    if serving.gateway is None:
        raise ServingError("a canary needs a gateway that owns it: set ASTROTRITON_GATEWAY_URL")
    if not canary.is_over(name, version, serving.gateway):
        begun()
        try:
            canary.wait(name, version, serving.gateway, report.progress)
        except CanaryError as error:
            promotion.withdraw(name, serving, on_progress=report.progress)
            error.add_note("the champion is the one before, and its challenger is unloaded")
            raise
    return released_as(Role())


@click.command(epilog=EXIT_CODES)
@click.argument("name", required=False)
@click.option("--challenger", is_flag=True, help="Only end the trial of the challenger.")
@click.option(
    "--to",
    type=click.IntRange(1),
    metavar="VERSION",
    help="The version to go back to: a former champion, or another that passed its gates.",
)
@common_options
def rollback(
    name: str | None, challenger: bool, to: int | None, as_json: bool, repository: str | None
) -> None:
    """Make a former champion of the model NAME the champion again.

    It needs the repository, Triton and the gateway alone: if MLflow does not answer, its aliases
    are moved later.
    """
    if challenger and to is not None:
        raise click.UsageError("give --challenger or --to, not both")
    report = Report("rollback", as_json)
    with report.telling():
        serving = serving_of(settings_of(repository))
        from astrotriton.export import promotion

        name = known_name(name, serving.repository)
        if challenger:
            live = promotion.withdraw(name, serving, on_progress=report.progress)
        else:
            live = promotion.rollback(name, serving, to=to, on_progress=report.progress)
        report.result(live_text(live), live=msgspec.to_builtins(live))


@click.command(epilog=EXIT_CODES)
@click.argument("name", required=False)
@click.option(
    "--mend-aliases",
    is_flag=True,
    help="First move MLflow's aliases to the versions that are served as what they say.",
)
@common_options
def models(name: str | None, mend_aliases: bool, as_json: bool, repository: str | None) -> None:
    """Show registry, repository, Tritons and gateway side by side for the model NAME."""
    report = Report("models", as_json)
    with report.telling():
        serving = serving_of(settings_of(repository))
        from astrotriton.export import promotion
        from astrotriton.export.overview import overview

        name = served_name(name or ModelConfig().model_name)
        notes = promotion.mend_aliases(name, serving) if mend_aliases else []
        seen = overview(name, serving)
        text = "\n".join([seen.text(), *(f"note: {note}" for note in notes)])
        report.result(text, **msgspec.to_builtins(seen), notes=notes)
