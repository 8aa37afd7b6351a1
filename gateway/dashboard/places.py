"""Places in the sky as people write them."""

from astropy import units as u
from astropy.coordinates import Angle

from astrotriton.detection.errors import InputError

_REMEDY = "write RA and Dec in degrees, or as 21:12:25.98 -66:00:56.6"


def read_place(text: str) -> tuple[float, float]:
    """RA and Dec of a place, ICRS degrees.

    It is two decimal numbers in degrees, or hours, minutes and seconds followed by degrees, minutes
    and seconds, with colons, letters or blanks between them. A comma may stand between RA and Dec.

    Raises
    ------
    InputError
        If it is none.
    """
    words = text.replace(",", " ").split()
    if len(words) == 6:
        words = [":".join(words[:3]), ":".join(words[3:])]
    if len(words) != 2:
        raise InputError("invalid-request", "place", f"{text!r} is no place in the sky; {_REMEDY}")
    hours = ":" in words[0] or "h" in words[0]
    try:
        ra = float(Angle(words[0], u.hourangle if hours else u.deg).deg)
        dec = float(Angle(words[1], u.deg).deg)
    except ValueError as error:
        raise InputError(
            "invalid-request", "place", f"{text!r} is no place in the sky: {error}; {_REMEDY}"
        ) from None
    if not (0.0 <= ra < 360.0 and -90.0 <= dec <= 90.0):
        raise InputError("invalid-request", "place", f"{text!r} is off the sky; {_REMEDY}")
    return ra, dec
