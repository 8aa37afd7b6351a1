"""How commands are told what share of the sources is real."""

from typing import Any

import click

from astrotriton.wire.confidence import PREVALENCES


class _PrevalenceType(click.ParamType[Any]):
    """A share of real sources, or a word that says whose it is."""

    name = "SHARE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        """The share, or the word."""
        if value in ("estimated", "calibrated"):
            return str(value)
        return click.FloatRange(*PREVALENCES).convert(value, param, ctx)


#: Of a request, or of a route.
SHARE = _PrevalenceType()
