"""Registry, repository, Tritons and gateway side by side."""

from datetime import UTC, datetime

import msgspec

from astrotriton.export import pipeline, registry
from astrotriton.export.errors import ExportError, ServingError
from astrotriton.export.gateway_routes import Route
from astrotriton.export.manifest import Manifest
from astrotriton.export.promotion import Serving
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
        manifest that MLflow vouches for.
    aliases
        Its aliases in MLflow.
    loaded
        The Tritons that serve it.
    problem
        Why its files are not what they should be; None if they are.
    """

    version: int
    registered: bool
    published: bool
    listed: bool
    gates: str
    aliases: list[str]
    loaded: list[str]
    problem: str | None = None


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """All versions of a model, and what cannot be seen of them."""

    name: str
    at: datetime
    versions: list[VersionState]
    route: Route | None
    replicas: int
    faults: list[str]

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
        lines.append(f"gateway: {self._routed()}")
        lines += [f"problem: {one.problem}" for one in self.versions if one.problem]
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
    ExportError
        If MLflow or the repository cannot be reached.
    """
    repository = serving.repository
    registered = {one.version: one for one in registry.versions(name)}
    aliases = registry.aliases(name)
    published, listed = repository.versions(name), repository.listed(name)
    faults: list[str] = []
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

    states = []
    known = {*registered, *published, *listed}.union(*loaded.values())
    for version in sorted(known):
        gates, problem = "none", None
        try:
            if version in published and version in registered:
                manifest = pipeline.read_manifest(registered[version], repository)
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
                aliases=sorted(alias for alias, one in aliases.items() if one == version),
                loaded=[address for address, ready in loaded.items() if version in ready],
                problem=problem,
            )
        )
    return Overview(
        name=name,
        at=datetime.now(UTC),
        versions=states,
        route=route,
        replicas=len(serving.replicas),
        faults=faults,
    )


def _outcome(manifest: Manifest) -> str:
    if manifest.failed:
        return "refused"
    return "passed" if manifest.blessed else "part"
