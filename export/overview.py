"""Registry, repository, Tritons and gateway side by side."""

from datetime import UTC, datetime

import msgspec

from astrotriton.export import pipeline, registry
from astrotriton.export.champions import CHAMPIONS_FILE, Champions, champions_of
from astrotriton.export.errors import (
    ExportError,
    RegistryError,
    ServingError,
    UnknownVersionError,
)
from astrotriton.export.gateway_routes import Route
from astrotriton.export.manifest import Approval, Manifest
from astrotriton.export.promotion import Serving
from astrotriton.export.registry import CHALLENGER, CHAMPION, PREVIOUS, RegisteredVersion
from astrotriton.export.repository import Repository
from astrotriton.export.serving import Replica


class VersionState(msgspec.Struct, frozen=True, kw_only=True):
    """Where one version is.

    Attributes
    ----------
    version
        Its number.
    registered, published, listed
        Whether it is in MLflow, in the repository, and in its ``config.pbtxt``.
    gates
        ``passed``; ``part``: not all of them were asked; ``refused``; or ``none``, if there is no
        manifest that MLflow vouches for. A version that MLflow does not have (any more), or
        cannot be asked about, has the manifest beside it vouch for itself.
    aliases
        Its aliases in MLflow.
    loaded
        The Tritons that serve it.
    problem
        Why its files are not what they should be; None if they are.
    description, tags
        As people wrote them in MLflow.
    approval
        Who let it serve, and when; None if nobody was asked.
    """

    version: int
    registered: bool
    published: bool
    listed: bool
    gates: str
    aliases: list[str]
    loaded: list[str]
    problem: str | None = None
    description: str = ""
    tags: dict[str, str] = {}
    approval: Approval | None = None

    def said(self) -> str:
        """What people said of it, in words; empty if nothing."""
        parts = [_one_line(self.description), _tagged(self.tags)]
        if self.approval is not None:
            parts.append(str(self.approval))
        return "; ".join(part for part in parts if part)


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All versions of a model, and what cannot be seen of them.

    Attributes
    ----------
    description, tags
        Of the model, as people wrote them in MLflow.
    champions
        As the repository notes them.
    mismatches
        Where aliases or route say something else, in words, with the command that mends it.
    faults
        What does not answer.
    """

    name: str
    at: datetime
    versions: list[VersionState]
    champions: Champions
    route: Route | None
    replicas: int
    mismatches: list[str]
    faults: list[str]
    description: str = ""
    tags: dict[str, str] = {}

    def text(self) -> str:
        """A table."""
        rows = [("version", "MLflow", "aliases", "gates", "published", "listed", "loaded")]
        rows += [
            (
                str(one.version),
                "yes" if one.registered else "no",
                ", ".join(one.aliases) or "-",
                one.gates,
                "damaged" if one.problem else "yes" if one.published else "no",
                "yes" if one.listed else "no",
                f"{len(one.loaded)} of {self.replicas}",
            )
            for one in self.versions
        ]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        about = "; ".join(filter(None, (_one_line(self.description), _tagged(self.tags))))
        if about:
            lines.insert(0, f"{self.name}: {about}")
        lines += [f"version {one.version}: {said}" for one in self.versions if (said := one.said())]
        lines.append(f"gateway: {self._routed()}")
        if self.champions.previous is not None:
            back = ", ".join(map(str, reversed(self.champions.versions[:-1])))
            lines.append(f"to go back to: {back} (astrotriton rollback {self.name} --to N)")
        lines += [f"problem: {one.problem}" for one in self.versions if one.problem]
        lines += [f"mismatch: {one}" for one in self.mismatches]
        return "\n".join([*lines, *(f"cannot be seen: {fault}" for fault in self.faults)])

    def _routed(self) -> str:
        if self.route is None:
            return "no route"
        text = f"version {self.route.champion}"
        if trial := self.route.challenger:
            text += f", {trial.mode} of version {trial.version} on {trial.fraction:.0%} of the runs"
        return text


def overview(name: str, serving: Serving) -> Overview:
    """Look everywhere; what does not answer is told and stops nothing else.

    Raises
    ------
    UnknownVersionError
        If there is no such model.
    ExportError
        If the repository cannot be reached.
    """
    repository = serving.repository
    published, listed = repository.versions(name), repository.listed(name)
    faults: list[str] = []
    registered: dict[int, RegisteredVersion] = {}
    aliases: dict[str, int] | None = None
    description, tags = "", dict[str, str]()
    try:
        registered = {one.version: one for one in registry.versions(name)}
        aliases = registry.aliases(name)
        description, tags = registry.described(name)
    except RegistryError as error:
        faults.append(str(error))
    else:
        if not registered and not published:
            raise UnknownVersionError(
                f"there is no {name!r}, neither in MLflow nor in {repository.location};"
                f" published are {', '.join(repository.names()) or 'none'}"
            )
    loaded: dict[str, list[int]] = {}
    for address in serving.replicas:
        with Replica(address) as replica:
            try:
                loaded[address] = replica.ready_versions(name)
            except ServingError as error:
                faults.append(str(error))
    route = None
    if serving.gateway:
        try:
            route = serving.gateway.route(name)
        except ServingError as error:
            faults.append(str(error))
    try:
        champions = champions_of(name, repository)
    except RegistryError:
        champions = Champions()

    states = []
    seen = {*registered, *published, *listed}.union(*loaded.values())
    for version in sorted(seen):
        gates, problem, manifest = "none", None, None
        known = registered.get(version)
        try:
            if version in published:
                if known is not None:
                    manifest = pipeline.read_manifest(known, repository)
                else:
                    manifest = repository.manifest(name, version)
                gates = "none" if manifest is None else _outcome(manifest)
        except ExportError as error:
            problem = str(error)
        states.append(
            VersionState(
                version=version,
                registered=version in registered,
                published=version in published,
                listed=version in listed,
                gates=gates,
                aliases=sorted(one for one, at in (aliases or {}).items() if at == version),
                loaded=[address for address, ready in loaded.items() if version in ready],
                problem=problem,
                description="" if known is None else known.description,
                tags={} if known is None else dict(known.tags),
                approval=None if manifest is None else manifest.approval,
            )
        )
    return Overview(
        name=name,
        at=datetime.now(UTC),
        versions=states,
        champions=champions,
        route=route,
        replicas=len(serving.replicas),
        mismatches=_mismatches(name, champions, aliases, route, repository),
        faults=faults,
        description=description,
        tags=tags,
    )


def _mismatches(
    name: str,
    champions: Champions,
    aliases: dict[str, int] | None,
    route: Route | None,
    repository: Repository,
) -> list[str]:
    """What the aliases and the route say other than the repository notes."""
    told = []
    wanted = champions.aliases()
    if aliases is not None and repository.note(name, CHAMPIONS_FILE) is not None:
        told += [
            f"the alias {alias} is {_at(aliases.get(alias))} in MLflow, and should be"
            f" {_at(wanted.get(alias))}: `astrotriton models {name} --mend-aliases`, or promote"
            " what shall serve"
            for alias in (CHAMPION, PREVIOUS, CHALLENGER)
            if aliases.get(alias) != wanted.get(alias)
        ]
    if route is not None and route.champion == champions.challenger:
        told.append(
            f"version {route.champion} has become the champion by its canary, which nobody has"
            f" noted yet: `astrotriton models {name} --mend-aliases`, or the command that began it"
        )
    elif route is not None and champions.champion not in (None, route.champion):
        told.append(
            f"the gateway asks version {route.champion}, and the champion is version"
            f" {champions.champion}: a change stopped half-way; promote or roll back to the one"
            " that shall serve"
        )
    return told


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _tagged(tags: dict[str, str]) -> str:
    said = (f"{tag}={value}" if value else tag for tag, value in sorted(tags.items()))
    return f"tags {', '.join(said)}" if tags else ""


def _at(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def _outcome(manifest: Manifest) -> str:
    if manifest.failed:
        return "refused"
    return "passed" if manifest.blessed else "part"
