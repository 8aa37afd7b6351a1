"""Whether the ONNX file is what its card promises, and answers as Keras does."""

from astrotriton.detection.quality.golden import GOLDEN_FILE, TOLERANCE, Golden
from astrotriton.export import accuracy, onnx_graph, parity
from astrotriton.export.errors import ConversionError, ParityError
from astrotriton.export.gates.version import VersionUnderTest
from astrotriton.export.repository import MODEL_FILE
from astrotriton.wire.validation import Gate

# Fields whose detections Keras and ONNX Runtime must agree on; Keras is slow.
_COMPARED_FIELDS = 3


class Graph:
    """Whether it is a valid graph with the card's names and shapes."""

    name = "onnx"
    needs = ()

    def applies(self, version: VersionUnderTest) -> bool:
        """Always."""
        return True

    def ask(self, version: VersionUnderTest) -> Gate:
        """See `VersionGate`."""
        version.on_progress("checking the ONNX graph")
        try:
            content = version.files[MODEL_FILE]
            figures = onnx_graph.inspect(content, version.card)
        except ConversionError as error:
            return Gate.of(self.name, [str(error)], "")
        good = "a valid graph with the card's names and shapes"
        if warnings := onnx_graph.warnings(content):
            good = "; ".join([good, *warnings])
        return Gate.of(self.name, [], good, **figures)


class Parity:
    """Whether it answers as Keras does; keeps the golden tile among the files."""

    name = "parity"
    needs = ("onnx",)

    def applies(self, version: VersionUnderTest) -> bool:
        """Always."""
        return True

    def ask(self, version: VersionUnderTest) -> Gate:
        """See `VersionGate`."""
        version.on_progress("comparing ONNX Runtime with Keras on the golden tiles")
        exact = version.precision == "fp32"
        try:
            passed = parity.compare(
                version.source,
                version.engine,
                version.card,
                version.golden_tiles,
                tolerance=TOLERANCE if exact else 1.0,
            )
        except ParityError as error:
            return Gate.of(self.name, [str(error)], "", **error.figures)
        except ConversionError as error:
            return Gate.of(self.name, [str(error)], "")
        golden = passed.golden
        if not exact:
            # What is served is proven against what the gates measured, and that is this file.
            golden = Golden(golden.image, version.engine(golden.image))
        version.files[GOLDEN_FILE] = golden.to_npz()
        largest = max(one.largest for one in passed.differences.values())
        return Gate.of(self.name, [], f"within {largest:.1e} of Keras", **passed.figures)


class Detections:
    """Whether it leads to the same detections as Keras."""

    name = "detections"
    needs = ("parity", "batch", "answers")

    def applies(self, version: VersionUnderTest) -> bool:
        """Of a version that is tried, in full precision."""
        return version.trial is not None and version.precision == "fp32"

    def ask(self, version: VersionUnderTest) -> Gate:
        """See `VersionGate`."""
        problems, found = accuracy.compare_detections(
            version.fields.fields[:_COMPARED_FIELDS], version.card, version.source, version.engine
        )
        return Gate.of(self.name, problems, "the same detections as with Keras", **found)
