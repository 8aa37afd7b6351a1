"""Networks, exposures, turns and forms of the speed benchmark."""

import numpy as np
import onnx
import pytest

from astrotriton.simulation.fields import Field as Sky
from astrotriton.simulation.truth import Source
from benchmarks.speed.contenders.base import Contender
from benchmarks.speed.exposures import Exposure, repeated
from benchmarks.speed.interleave import Field, interleave
from benchmarks.speed.networks import gflop
from benchmarks.speed.services.patches import maxima
from benchmarks.speed.wire import multipart


def test_operations_of_a_convolution() -> None:
    helper = onnx.helper
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 2, 8, 8])
    answer = helper.make_tensor_value_info("answer", onnx.TensorProto.FLOAT, ["N", 4, 8, 8])
    kernel = onnx.numpy_helper.from_array(np.zeros((4, 2, 3, 3), np.float32), "kernel")
    node = helper.make_node("Conv", ["image", "kernel"], ["answer"], pads=[1, 1, 1, 1])
    graph = helper.make_graph([node], "graph", [image], [answer], [kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    assert gflop(model.SerializeToString()) == pytest.approx(2 * 4 * 2 * 9 * 64 / 1e9)


def test_a_field_of_any_size_has_as_many_sources_an_area() -> None:
    field = Sky(
        difference=np.arange(16, dtype=np.float32).reshape(4, 4),
        science=np.zeros((4, 4), np.float32),
        template=np.zeros((4, 4), np.float32),
        fwhm=3.0,
        truth=[Source("transient", 1.0, 2.0), Source("dipole", 3.5, -1.0)],
    )
    large = repeated(field, 8)
    np.testing.assert_array_equal(large.difference[4:, :4], field.difference)
    assert {(one.x, one.y) for one in large.of_kind("transient")} == {
        *((1.0, 2.0), (5.0, 2.0)),
        *((1.0, 6.0), (5.0, 6.0)),
    }
    assert repeated(field, 2).difference.tolist() == [[0.0, 1.0], [4.0, 5.0]]
    assert repeated(field, 2).truth == []


def test_patches_reach_over_the_edge() -> None:
    answer = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    assert maxima(answer, [[0.0, 0.0], [3.2, 2.9], [1.0, 1.0]]) == [5.0, 15.0, 10.0]


def test_a_form_holds_the_file_as_it_is() -> None:
    body = multipart(b"\x00\r\n--", candidates="[]")
    assert body.count(b"Content-Disposition") == 2
    assert b"\r\n\r\n\x00\r\n--\r\n--" in body


class Counting(Contender):
    """Notes in which order it is asked."""

    title = "counting"

    def __init__(self, key: str, asked: list[str], *, fails: bool = False) -> None:
        self.key = key
        super().__init__([Exposure(b"", [], np.zeros((1, 1, 8, 8), np.float32))])
        self.asked, self.fails, self.stopped = asked, fails, 0

    def score(self, exposure: Exposure) -> None:
        self.asked.append(self.key)
        if self.fails and len(self.asked) > 6:
            raise RuntimeError("had enough")

    def stop(self) -> None:
        super().stop()
        self.stopped += 1


def run(*contenders: Counting, rounds: int = 2) -> tuple[Field, dict[str, list[float]]]:
    field = Field(lambda what: None)
    for contender in contenders:
        field.add(contender, 1)
    *_, turns = interleave(field, rounds, 2, 4, lambda what: None)
    return field, {key: [turn.rate for turn in ones] for key, ones in turns.items()}


def test_contenders_take_turns_and_another_begins_each_round() -> None:
    asked: list[str] = []
    _, rates = run(Counting("a", asked), Counting("b", asked))
    assert "".join(asked) == "ab" + "aabb" + "bbaa"
    assert {key: len(ones) for key, ones in rates.items()} == {"a": 2, "b": 2}


def test_who_fails_is_left_out_and_the_others_go_on() -> None:
    asked: list[str] = []
    failing = Counting("a", asked, fails=True)
    field, rates = run(failing, Counting("b", asked), rounds=3)
    assert set(rates) == {"b"}
    assert len(rates["b"]) == 3
    assert field.not_run == {"a": ("counting", "had enough")}
    assert failing.stopped == 1
    field.stop()
