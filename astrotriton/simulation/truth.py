"""What is known to be in a simulated field."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["transient", "dipole", "cosmic_ray", "trail", "bad_column", "saturated"]


@dataclass(frozen=True, slots=True)
class Source:
    """One thing that was put into a field.

    Attributes
    ----------
    kind
        ``dipole`` is a constant source bright enough to leave a residual, ``saturated`` a column
        that reaches the full well.
    x, y
        Its centre, pixels.
    snr
        Of a transient, matched-filter signal-to-noise ratio.
    polarity
        Of a transient, 1 if it brightens and -1 if it fades; 0 for everything else.
    host
        What a transient lies on.
    saturated
        Whether the peak of a transient reaches the full well.
    """

    kind: Kind
    x: float
    y: float
    snr: float = 0.0
    polarity: int = 0
    host: Literal["", "star", "galaxy"] = ""
    saturated: bool = False
