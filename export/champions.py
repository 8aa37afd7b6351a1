"""Which versions of a model were its champions, as its repository keeps it.

MLflow's aliases and the gateway's route follow from this. So a rollback needs no MLflow, and a
version that was deleted there, or an alias that was moved by hand, stops nobody.
"""

from collections.abc import Collection

import msgspec

from astrotriton.export import registry
from astrotriton.export.errors import RepositoryError
from astrotriton.export.registry import CHALLENGER, CHAMPION, PREVIOUS
from astrotriton.export.repository import Repository

CHAMPIONS_FILE = "champions.json"


class Champions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The champions of a model that can be gone back to, and what is tried beside the last.

    Attributes
    ----------
    versions
        Oldest first; the last is the champion.
    challenger
        The version that is tried; None if none is.
    retired
        Those that were live and are live no longer, ascending. What a person said of them was acted
        upon: to be live again, they need another approval.
    """

    versions: list[int] = []
    challenger: int | None = None
    retired: list[int] = []

    @property
    def champion(self) -> int | None:
        """The version that answers; None if nothing is served."""
        return self.versions[-1] if self.versions else None

    @property
    def previous(self) -> int | None:
        """The version that a rollback brings back; None if there is none."""
        return self.versions[-2] if len(self.versions) > 1 else None

    def rival(self, version: int) -> int | None:
        """The champion that a version is measured against: the one before, if it is that itself."""
        return self.previous if version == self.champion else self.champion

    def promoted(self, version: int) -> "Champions":
        """With a version as the champion, and nothing tried."""
        return self._changed([*(one for one in self.versions if one != version), version])

    def challenged(self, version: int) -> "Champions":
        """With a version tried beside the champion."""
        return self._changed(self.versions, version)

    def back_to(self, version: int) -> "Champions":
        """With a former champion as the champion, and those after it forgotten."""
        return self._changed(self.versions[: self.versions.index(version) + 1])

    def asked_again(self, version: int) -> "Champions":
        """With another approval asked for of a version that was live."""
        return msgspec.structs.replace(
            self, retired=[one for one in self.retired if one != version]
        )

    def _changed(self, versions: list[int], challenger: int | None = None) -> "Champions":
        then = Champions(versions=versions, challenger=challenger)
        retired = {*self.retired, self.champion, self.challenger} - {then.champion, challenger}
        return msgspec.structs.replace(then, retired=sorted(one for one in retired if one))

    def among(self, published: Collection[int]) -> "Champions":
        """Without those that are no longer published."""
        return msgspec.structs.replace(
            self,
            versions=[one for one in self.versions if one in published],
            retired=[one for one in self.retired if one in published],
        )

    def aliases(self) -> dict[str, int]:
        """The version of each alias that MLflow is to have."""
        found = {PREVIOUS: self.previous, CHAMPION: self.champion, CHALLENGER: self.challenger}
        return {alias: version for alias, version in found.items() if version is not None}


def champions_of(name: str, repository: Repository) -> Champions:
    """The champions of a model.

    Where the repository keeps none, MLflow's aliases tell; where there are none either, the newest
    version that is served counts as the champion.

    Raises
    ------
    ExportError
        If the repository cannot be read; if it keeps none, and MLflow cannot be reached.
    """
    if (content := repository.note(name, CHAMPIONS_FILE)) is not None:
        try:
            return msgspec.json.decode(content, type=Champions)
        except msgspec.DecodeError as error:
            raise RepositoryError(
                f"{repository.location}/{name}/{CHAMPIONS_FILE} is damaged ({error}): delete it,"
                " and MLflow's aliases are taken in its place"
            ) from error
    aliases = registry.aliases(name)
    champion = aliases.get(CHAMPION, max(repository.listed(name), default=None))
    known = [one for one in (aliases.get(PREVIOUS), champion) if one is not None]
    return Champions(versions=list(dict.fromkeys(known)), challenger=aliases.get(CHALLENGER))


def keep_champions(name: str, champions: Champions, repository: Repository) -> None:
    """Keep the champions of a model in its repository.

    Raises
    ------
    RepositoryError
        If the repository refuses, or somebody else writes there meanwhile.
    """
    content = msgspec.json.format(msgspec.json.encode(champions)) + b"\n"
    repository.keep_note(name, CHAMPIONS_FILE, content)
