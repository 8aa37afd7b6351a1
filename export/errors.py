"""Why a version was not exported. Nothing was published when one of these is raised."""

from collections.abc import Mapping


class ExportError(Exception):
    """An export that stopped; the message names what is wrong and the remedy."""


class RegistryError(ExportError):
    """MLflow cannot be reached, or does not hold what was asked of it."""


class ConversionError(ExportError):
    """A Keras model that does not become the ONNX graph its card promises."""


class ParityError(ExportError):
    """ONNX Runtime does not answer as Keras does.

    Parameters
    ----------
    message
        What differs, and by how much.
    figures
        The figures measured, by name, as `export.parity.Parity.figures` gives them.
    """

    def __init__(self, message: str, figures: Mapping[str, float]) -> None:
        super().__init__(message)
        self.figures = dict(figures)


class RepositoryError(ExportError):
    """A model repository whose content is damaged, or is not what was to be published."""
