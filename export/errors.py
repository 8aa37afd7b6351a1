"""Why a version was not exported or promoted.

Nothing is changed when one of these is raised, but for `UnfinishedError`.
"""

import re
from collections.abc import Mapping

from astrotriton.export.manifest import Manifest

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST = 400  # characters of what another program says


def one_line(error: object) -> str:
    """What another program says, in one line, without colours, and no longer than one reads."""
    text = " ".join(_COLOUR.sub("", str(error)).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


class ExportError(Exception):
    """An export that stopped; the message names what is wrong and the remedy."""


class RegistryError(ExportError):
    """MLflow cannot be reached, or does not hold what was asked of it."""


class UnknownVersionError(ExportError):
    """A model, version or alias that was asked for, and that there is not."""


class LoadError(RegistryError):
    """A registered model that no Keras at hand can read."""


class ConversionError(ExportError):
    """A Keras model that does not become the ONNX graph its card promises."""


class ParityError(ExportError):
    """ONNX Runtime does not answer as Keras does.

    Parameters
    ----------
    message
        What differs, and by how much.
    figures
        The figures measured, by name, as `astrotriton.export.parity.Parity.figures` gives them.
    """

    def __init__(self, message: str, figures: Mapping[str, float]) -> None:
        super().__init__(message)
        self.figures = dict(figures)


class GateError(ExportError):
    """A version that failed a gate.

    Parameters
    ----------
    manifest
        What was measured, and which gates failed.
    """

    def __init__(self, manifest: Manifest) -> None:
        failed = "; ".join(f"{gate.name}: {gate.detail}" for gate in manifest.failed)
        super().__init__(f"{manifest.name} version {manifest.version} is refused by {failed}")
        self.manifest = manifest


class CanaryError(ExportError):
    """A version that was sent back by its canary; the champion is the one before."""


class RepositoryError(ExportError):
    """A model repository whose content is damaged, or is not what was to be published."""


class ServingError(ExportError):
    """A serving Triton or the gateway that refuses a version, or answers it wrongly."""


class RejectedError(ExportError):
    """A version that a person would not let serve."""


class UnapprovedError(ExportError):
    """A version that nobody has let serve, or refused, in time.

    It stays published, and its gates need not be asked again.
    """


class UnfinishedError(ExportError):
    """A change of what is served that stopped half-way, so that not everything is as it was.

    The message says what is live; the same command again finishes it.
    """
