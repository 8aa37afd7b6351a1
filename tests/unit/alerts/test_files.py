"""A run that was ended goes on where it stopped."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from astrotriton.alerts.files import pass_on
from astrotriton.alerts.packets import FIELD, PacketError, refusal
from tests.alert_packets import RUBIN, ZTF, read, rubin, write, ztf


def unscored(packets: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**packet, FIELD: refusal("nobody was asked")} for packet in packets]


def names(path: Path) -> list[int]:
    return [packet["candid"] - 2_000_000_000 for packet in read(path)]


@pytest.mark.parametrize("cut", [0, 1, 17, 200])
def test_none_is_lost_and_none_is_there_twice(tmp_path: Path, cut: int) -> None:
    first = write(tmp_path / "1.avro", ZTF, [ztf(i) for i in range(7)])
    second = write(tmp_path / "2.avro", ZTF, [ztf(i) for i in range(7, 20)])
    out = tmp_path / "out.avro"
    run = pass_on([first, second], out, unscored, 4)
    assert [next(run) for _ in range(3)] == [0, 4, 8]
    run.close()
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) - cut])  # as a machine that lost its power leaves it
    reached = list(pass_on([first, second], out, unscored, 4))
    assert reached[0] == 8 if cut == 0 else reached[0] < 8
    assert reached[-1] == 20
    assert names(out) == list(range(20))
    assert list(pass_on([first, second], out, unscored, 4)) == [20]
    assert [{**ztf(i), FIELD: None} for i in range(3)] == [
        {**packet, FIELD: None} for packet in list(read(out))[:3]
    ]


def test_packets_of_two_schemas_are_not_mixed(tmp_path: Path) -> None:
    ours = write(tmp_path / "ztf.avro", ZTF, [ztf(0)])
    theirs = write(tmp_path / "rubin.avro", RUBIN, [rubin(0)])
    with pytest.raises(PacketError, match="another schema"):
        list(pass_on([ours, theirs], tmp_path / "out.avro", unscored, 4))
    (tmp_path / "text").write_text("no packets")
    with pytest.raises(PacketError, match="no Avro file"):
        list(pass_on([tmp_path / "text"], tmp_path / "other.avro", unscored, 4))
