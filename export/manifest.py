"""What a version was measured by before it was let through, kept beside it and in its run."""

from datetime import datetime

import msgspec

from astrotriton.wire.validation import Gate


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """A person's word that a version may serve.

    Attributes
    ----------
    by
        Who, as the tag in MLflow says.
    at
        When that was seen; MLflow keeps no time of a tag.
    """

    by: str
    at: datetime

    def __str__(self) -> str:
        return f"approved by {self.by}, {self.at:%Y-%m-%d %H:%M} UTC"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The gates of one version.

    Attributes
    ----------
    name, version
        The version.
    made_at
        When it was measured.
    champion
        The version that it was compared with; None if none was the champion.
    precision
        Of the weights and activations: ``fp32``, ``fp16`` or ``int8``.
    profile
        Of ``triton-config/profiles/`` that it was tried with; None if no server tried it.
    validation
        What the accuracy was measured on, in words; None if it was not measured.
    exporter
        What converted it, ``tf2onnx`` or ``keras``; None if its file does not say.
    warnings
        What does not refuse it and should be known, in words.
    made_with
        Versions of what made and measured it, and the ONNX opset, by name.
    digests
        SHA-256 of the files measured, by name; the card's own among them.
    gates
        In the order in which they were asked.
    seconds
        How long loading and converting (``converted``) and each gate took.
    approval
        Who let it serve after that; None if nobody was asked, or has answered.
    """

    name: str
    version: int
    made_at: datetime
    champion: int | None = None
    precision: str = "fp32"
    profile: str | None = None
    validation: str | None = None
    exporter: str | None = None
    warnings: list[str] = []
    made_with: dict[str, str] = {}
    digests: dict[str, str] = {}
    gates: list[Gate] = []
    seconds: dict[str, float] = {}
    approval: Approval | None = None

    @property
    def failed(self) -> list[Gate]:
        """The gates that let it not pass."""
        return [gate for gate in self.gates if not gate.passed]

    @property
    def blessed(self) -> bool:
        """Whether it passed, and a server was among those that tried it."""
        return not self.failed and any(gate.name == "sandbox" for gate in self.gates)

    @property
    def figures(self) -> dict[str, float]:
        """Every figure of every gate that is a number, by name."""
        return {
            name: value
            for gate in self.gates
            for name, value in gate.figures.items()
            if value is not None
        }

    def to_json(self) -> bytes:
        """The manifest as indented JSON."""
        return msgspec.json.format(msgspec.json.encode(self))

    @classmethod
    def from_json(cls, content: bytes) -> "Manifest":
        """Read a manifest.

        Raises
        ------
        ValueError
            If it is not one.
        """
        try:
            return msgspec.json.decode(content, type=cls)
        except msgspec.DecodeError as error:
            raise ValueError(f"not a manifest: {error}; verify the version again") from error
