"""What can be wrong with an input, said so that its sender can mend it."""


class InputError(ValueError):
    """An input that cannot be scored.

    Parameters
    ----------
    code
        Stable, kebab-case name of the fault, for programs (``not-fits``, ``too-large``, ...).
    field
        The part of the request that is wrong (``exposure``, ``candidates[3].x``, ...).
    detail
        What is wrong and what to do about it, for people.
    """

    def __init__(self, code: str, field: str, detail: str) -> None:
        super().__init__(code, field, detail)
        self.code = code
        self.field = field
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.field}: {self.detail}"


class PlaneMissingError(InputError):
    """An image that a version needs was not sent; another version may do without."""


class TooLargeError(InputError):
    """An input that exceeds a bound of the service."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__("too-large", field, detail)


class CardError(ValueError):
    """A model card that contradicts itself; the message lists every problem."""
