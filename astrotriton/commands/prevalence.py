"""How commands are told what share of the sources is real."""

from typing import Any

import click

from astrotriton.wire.confidence import PREVALENCES


class PrevalenceType(click.ParamType[Any]):
    """A share of real sources, or a word that says whose it is.

    Parameters
    ----------
    words
        The words that are taken.
    """

    name = "SHARE"

    def __init__(self, *words: str) -> None:
        self.words = words

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        """The share, or one of the words."""
        if value in self.words:
            return str(value)
        return click.FloatRange(*PREVALENCES).convert(value, param, ctx)


#: Of a request.
SHARE = PrevalenceType("estimated", "calibrated")
#: Of a route.
ROUTE_SHARE = PrevalenceType("estimated", "calibrated")
