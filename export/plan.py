"""What a promotion would do, in its order, with how long each step took before; nothing is done."""

import statistics
from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

import msgspec

from astrotriton.detection.card import ModelCard
from astrotriton.export import gates, registry
from astrotriton.export.approval import APPROVED_BY
from astrotriton.export.champions import CHAMPIONS_FILE, Champions, champions_of
from astrotriton.export.errors import ServingError
from astrotriton.export.gates.version import Trial, VersionUnderTest
from astrotriton.export.precision import Precision
from astrotriton.export.promotion import Serving, prunable
from astrotriton.export.registry import CHALLENGER, CHAMPION, PREVIOUS, RegisteredVersion
from astrotriton.export.release import Role, blessing
from astrotriton.export.serving import Replica
from astrotriton.export.triton_config import CONFIG_FILE

# Gates that compare with the champion.
_COMPARING = ("accuracy_change", "calibration", "latency", "memory")


class PlannedStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a promotion.

    Attributes
    ----------
    name
        Of the gate or of the step; as `astrotriton.export.registry.seconds_taken` names it.
    does
        What it does, in words.
    seconds
        How long it took in the last promotions of this model, the newest first; none if that is
        not known, or nothing is to be done.
    timed
        Whether it takes time that can be learned: not if a person decides, or nothing is to be
        done.
    """

    name: str
    does: str
    seconds: list[float]
    timed: bool = True

    @property
    def typical(self) -> float | None:
        """The median of the seconds; None if it is not known."""
        return statistics.median(self.seconds) if self.seconds else None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a promotion would do.

    Attributes
    ----------
    name, version, role
        What would become what, in words.
    champion
        The version that it would be compared with; None if there is none.
    steps
        In their order.
    obstacles
        What would stop it if it began now, in words.
    """

    name: str
    version: int
    role: str
    champion: int | None
    steps: list[PlannedStep]
    obstacles: list[str]

    @property
    def typical(self) -> float:
        """Seconds of all steps that are known."""
        return sum(step.typical or 0.0 for step in self.steps)

    def text(self) -> str:
        """A table."""
        beside = "no champion" if self.champion is None else f"version {self.champion}"
        lines = [
            f"{self.name} version {self.version} would become {self.role}; judged beside {beside}"
        ]
        names = max(len(step.name) for step in self.steps)
        times = {step.name: _time(step) for step in self.steps}
        width = max(map(len, times.values()))
        lines += [
            f"  {step.name:<{names}}  {times[step.name]:>{width}}  {step.does}"
            for step in self.steps
        ]
        unknown = sum(step.timed and not step.seconds for step in self.steps)
        total = f"together about {_span(self.typical)}"
        if unknown:
            total += f", without {unknown} step{'s' * (unknown != 1)} not known yet"
        lines.append(f"{total}; nothing was changed")
        return "\n".join([*lines, *(f"obstacle: {one}" for one in self.obstacles)])


@dataclass(frozen=True, slots=True)
class _Circumstances:
    """What a gate looks at to say whether it applies to a version."""

    card: ModelCard
    champion: int | None
    trial: Trial | None
    precision: Precision


def plan(
    registered: RegisteredVersion,
    serving: Serving,
    trial: Trial,
    role: Role,
    *,
    precision: Precision = "fp32",
    approval: bool = False,
) -> Plan:
    """What promoting a version would do.

    Parameters
    ----------
    registered
        The version.
    serving, trial, role, precision
        As `astrotriton.export.release.release` takes them.
    approval
        Whether a person is asked.

    Raises
    ------
    GateError
        If it is published, and was refused.
    ExportError
        If MLflow or the repository cannot be read.
    """
    name, version, repository = registered.name, registered.version, serving.repository
    now = champions_of(name, repository)
    rival = now.rival(version)
    published = repository.holds(name, version)
    blessed = blessing(registered, serving, precision)
    card = repository.read(name, version) if published else registry.load_card(registered)
    taken = registry.seconds_taken(name)
    after = now.promoted(version) if role.mode is None else now.challenged(version)

    def step(name: str, does: str) -> PlannedStep:
        return PlannedStep(name=name, does=does, seconds=taken.get(name, []))

    def nothing(name: str, why: str) -> PlannedStep:
        return PlannedStep(name=name, does=why, seconds=[], timed=False)

    steps: list[PlannedStep] = []
    if blessed is not None:
        passed = f"passed already, on {blessed.made_at:%Y-%m-%d %H:%M} UTC; not asked again"
        steps.append(nothing("gates", passed))
    else:
        done = "its published file is measured" if published else f"converted to ONNX, {precision}"
        steps.append(step("converted", f"loaded from MLflow; {done}"))
        tried = _Circumstances(card, rival, trial, precision)
        for gate in gates.GATES:
            # It is asked nothing but what `_Circumstances` has.
            if gate.applies(cast(VersionUnderTest, tried)):
                beside = f", beside version {rival}" if rival and gate.name in _COMPARING else ""
                steps.append(step(gate.name, f"gate{beside}"))
    if not published:
        steps.append(step("published", f"written to {repository.where(name, version)}"))
    if approval:
        steps.append(nothing("approved", f"waits for the tag {APPROVED_BY} in MLflow"))
    listed = sorted({*repository.listed(name), *after.aliases().values(), version})
    steps += [
        step("listed", f"{CONFIG_FILE} lists {_numbers(listed)}"),
        step("loaded", f"loaded and proven on {', '.join(serving.replicas)}"),
        step("noted", f"{CHAMPIONS_FILE}: {_told(after)}"),
        step("routed", _routed(serving, after, role)),
        step("aliased", f"MLflow's aliases: {_told(after)}"),
    ]
    gone = sorted(set(listed) - set(after.aliases().values()))
    steps.append(
        step("trimmed", f"unloaded: {_numbers(gone)}")
        if gone
        else nothing("trimmed", "nothing to unload")
    )
    pruned = _pruned(name, version, after, serving)
    steps.append(
        step("pruned", f"removed from the repository: {_numbers(pruned)}")
        if pruned
        else nothing("pruned", "nothing to remove from the repository")
    )
    return Plan(
        name=name,
        version=version,
        role="the champion" if role.mode is None else f"the challenger, {_tried(role)}",
        champion=rival,
        steps=steps,
        obstacles=_obstacles(name, version, now, serving, role),
    )


def _pruned(name: str, version: int, after: Champions, serving: Serving) -> list[int]:
    moved = (CHAMPION, CHALLENGER, PREVIOUS)
    own = {one for alias, one in registry.aliases(name).items() if alias not in moved}
    published = sorted({*serving.repository.versions(name), version})
    return prunable(published, after, {*after.aliases().values(), *own}, serving.keep)


def _obstacles(name: str, version: int, now: Champions, serving: Serving, role: Role) -> list[str]:
    told = []
    if role.mode is not None:
        if serving.gateway is None:
            told.append("a challenger needs a gateway: set ASTROTRITON_GATEWAY_URL")
        if now.champion in (None, version):
            told.append("there is no champion to challenge: promote it as champion")
    if serving.gateway is not None:
        try:
            serving.gateway.route(name)
        except ServingError as error:
            told.append(str(error))
    for address in serving.replicas:
        with Replica(address) as replica:
            try:
                replica.ready_versions(name)
            except ServingError as error:
                told.append(str(error))
    return told


def _routed(serving: Serving, after: Champions, role: Role) -> str:
    if serving.gateway is None:
        return "no gateway to tell"
    told = f"the gateway at {serving.gateway.url} asks version {after.champion}"
    if role.mode is not None:
        told += f", and version {after.challenger} {_tried(role)}"
    return told


def _tried(role: Role) -> str:
    if role.automatic:
        return "as canary whose share the gateway raises, until it is the champion or sent back"
    return f"as {role.mode} on {role.fraction:.0%} of the runs"


def _told(champions: Champions) -> str:
    return ", ".join(f"{alias} {version}" for alias, version in champions.aliases().items())


def _numbers(versions: Collection[int]) -> str:
    word = "version" if len(versions) == 1 else "versions"
    return f"{word} {', '.join(map(str, versions))}"


def _time(step: PlannedStep) -> str:
    if not step.timed:
        return "-"
    return "not known yet" if step.typical is None else _span(step.typical)


def _span(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
