"""The model repository: version folders that are whole or absent, and the ``config.pbtxt`` beside.

Layout, which export, gateway and stack all read as it is::

    <location>/<name>/config.pbtxt, champions.json
    <location>/<name>/<version>/model.onnx, golden.npz, card.json, manifest.json
                                validation.fits, baseline.npz

The card has the digests of all but the manifest, the manifest that of the card, and the registry
that of the manifest.
"""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from astrotriton.detection.card import ModelCard
from astrotriton.detection.errors import CardError
from astrotriton.detection.quality.golden import GOLDEN_FILE
from astrotriton.export import digests
from astrotriton.export.errors import RepositoryError
from astrotriton.export.manifest import Manifest
from astrotriton.export.store import Store, open_store
from astrotriton.export.triton_config import CONFIG_FILE, build_config, listed_in, to_text
from astrotriton.settings import ModelConfig

MODEL_FILE = "model.onnx"
CARD_FILE = "card.json"
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class Listing:
    """A ``config.pbtxt`` as it is.

    Attributes
    ----------
    content
        None if there is none.
    versions
        Those that it has Triton load, ascending.
    """

    content: bytes | None
    versions: list[int]


class Repository:
    """A model repository that Triton serves from.

    Parameters
    ----------
    location
        A folder, or ``s3://bucket/prefix``.

    Raises
    ------
    RepositoryError
        If the location is of another kind. So does every method, if the store fails.
    """

    def __init__(self, location: str | Path) -> None:
        self._store: Store = open_store(location)
        self.location = self._store.location

    def where(self, name: str, version: int | None) -> str:
        """Where a version is published.

        Raises
        ------
        ValueError
            If the version has no number yet.
        """
        return f"{self.location}/{_key(name, version)}"

    def locked(self, name: str) -> AbstractContextManager[None]:
        """Keep other publishers of a model out; it waits while one is in."""
        return self._store.locked(name)

    def names(self) -> list[str]:
        """The models that the repository has, by name."""
        return sorted(one for one in self._store.folders("") if not one.startswith("."))

    def versions(self, name: str) -> list[int]:
        """The versions that are published, ascending."""
        numbers = (int(folder) for folder in self._store.folders(name) if folder.isdecimal())
        return sorted(number for number in numbers if self.holds(name, number))

    def holds(self, name: str, version: int) -> bool:
        """Whether a version is published."""
        return self._store.holds(_key(name, version), last=CARD_FILE)

    def read(self, name: str, version: int) -> ModelCard:
        """The card of a published version, after checking every file against its digest.

        Raises
        ------
        RepositoryError
            Naming the file that is missing or damaged.
        """
        where = self.where(name, version)
        remedy = f"delete {where} and export the version again"
        try:
            card = ModelCard.from_json(self.file(name, version, CARD_FILE))
            if (card.name, card.version) != (name, version):
                raise RepositoryError(
                    f"{where}/{CARD_FILE} is of {card.name} version {card.version}: {remedy}"
                )
            if missing := {MODEL_FILE, GOLDEN_FILE} - card.digests.keys():
                raise RepositoryError(
                    f"{where}/{CARD_FILE} has no digest of {', '.join(sorted(missing))}: {remedy}"
                )
            for file, digest in card.digests.items():
                if digests.of_bytes(self.file(name, version, file)) != digest:
                    raise RepositoryError(
                        f"{where}/{file} is damaged (its SHA-256 is not the card's): {remedy}"
                    )
        except (OSError, CardError) as error:
            raise RepositoryError(f"{where} is damaged: {error}; {remedy}") from error
        return card

    def file(self, name: str, version: int, file: str) -> bytes:
        """Content of a published version's file.

        Raises
        ------
        FileNotFoundError
            If there is none.
        """
        return self._store.read(f"{_key(name, version)}/{file}")

    def manifest(self, name: str, version: int) -> Manifest | None:
        """The manifest beside a published version; None if it has none, or one of another card.

        Raises
        ------
        RepositoryError
            If it, or the version, is damaged.
        """
        try:
            content = self.file(name, version, MANIFEST_FILE)
        except FileNotFoundError:
            return None
        card = self.read(name, version)
        try:
            manifest = Manifest.from_json(content)
        except ValueError as error:
            raise RepositoryError(
                f"{self.where(name, version)}/{MANIFEST_FILE}: {error}"
            ) from error
        same = manifest.digests.get(CARD_FILE) == digests.of_bytes(card.to_json())
        return manifest if same else None

    def publish(self, card: ModelCard, files: Mapping[str, bytes]) -> bool:
        """Add a version folder; nothing serves it yet.

        The folder appears whole or not at all, its digests verified. Publishing the same content
        again changes nothing.

        Parameters
        ----------
        card
            With its version and the digests of ``files``.
        files
            Contents of ``model.onnx`` and ``golden.npz`` by file name.

        Returns
        -------
        bool
            Whether it was not there before.

        Raises
        ------
        RepositoryError
            If that version is there with other content, or what was written does not read back.
        """
        key = _key(card.name, card.version)
        version = int(key.rpartition("/")[2])
        for name, content in files.items():
            if card.digests.get(name) != digests.of_bytes(content):
                raise RepositoryError(
                    f"{self.where(card.name, version)}/{name} is damaged (its SHA-256 is not the"
                    " card's): export the version again"
                )
        with self.locked(card.name):
            self._store.remove_leftovers(card.name)
            if self.holds(card.name, version):
                if (there := self.read(card.name, version)) != card:
                    raise RepositoryError(
                        f"{self.where(card.name, version)} already holds this version with other"
                        f" {_differing(there, card)}: a published version never changes; register"
                        " the model as a new version, or delete that folder if nothing serves it"
                    )
                return False
            self._store.add_folder(key, {**files, CARD_FILE: card.to_json()}, last=CARD_FILE)
            try:
                self.read(card.name, version)
            except RepositoryError:
                self._store.remove_folder(key, last=CARD_FILE)
                raise
        return True

    def attach(self, name: str, version: int, file: str, content: bytes) -> None:
        """Put a further file into a published version's folder, or replace it."""
        key = f"{_key(name, version)}/{file}"
        self._store.replace(key, content, before=self._content(key))

    def remove(self, name: str, version: int) -> None:
        """Remove a version that nothing serves, whole or not at all.

        Raises
        ------
        RepositoryError
            If ``config.pbtxt`` lists it.
        """
        with self.locked(name):
            if version in self.listed(name):
                raise RepositoryError(
                    f"{self.where(name, version)} is listed in {CONFIG_FILE}: Triton serves it"
                )
            self._store.remove_folder(_key(name, version), last=CARD_FILE)

    def listing(self, name: str) -> Listing:
        """The ``config.pbtxt`` and what it lists.

        Raises
        ------
        RepositoryError
            If it is damaged.
        """
        content = self.note(name, CONFIG_FILE)
        if content is None:
            return Listing(None, [])
        try:
            return Listing(content, sorted(listed_in(content)))
        except ValueError as error:
            raise RepositoryError(
                f"{self.location}/{name}/{CONFIG_FILE} is damaged: delete it and export again"
                f" ({error})"
            ) from error

    def listed(self, name: str) -> list[int]:
        """The versions that ``config.pbtxt`` has Triton load, ascending; as `listing` raises."""
        return self.listing(name).versions

    def list_versions(
        self, card: ModelCard, versions: Collection[int], settings: ModelConfig, profile: str
    ) -> bool:
        """Have Triton load these versions, and no others, when it next loads the model.

        Those that are not published are left out. One step, and nothing but the list and the
        serving settings changes.

        Parameters
        ----------
        card
            Of one of them; they all have the same inputs and outputs.
        settings, profile
            As `astrotriton.export.triton_config.build_config` takes them.

        Returns
        -------
        bool
            Whether anything is other than before.
        """
        self._store.remove_leftovers(card.name)
        published = [one for one in versions if self.holds(card.name, one)]
        content = to_text(build_config(card, settings, profile, published))
        return self.keep_note(card.name, CONFIG_FILE, content)

    def note(self, name: str, file: str) -> bytes | None:
        """Content of a file that is about all versions of a model; None if there is none."""
        return self._content(f"{name}/{file}")

    def keep_note(self, name: str, file: str, content: bytes | None) -> bool:
        """Replace such a file, or with None take it away, in one step; whether it was another one.

        Raises
        ------
        RepositoryError
            If somebody else changes it at the same time.
        """
        before = self.note(name, file)
        if content == before:
            return False
        if content is None:
            self._store.remove(f"{name}/{file}")
        else:
            self._store.replace(f"{name}/{file}", content, before=before)
        return True

    def _content(self, key: str) -> bytes | None:
        try:
            return self._store.read(key)
        except FileNotFoundError:
            return None


def _key(name: str, version: int | None) -> str:
    if version is None:
        raise ValueError(f"{name} has no version: only a registered model is published")
    return f"{name}/{version}"


def _differing(there: ModelCard, card: ModelCard) -> str:
    return ", ".join(
        name for name in card.__struct_fields__ if getattr(there, name) != getattr(card, name)
    )
