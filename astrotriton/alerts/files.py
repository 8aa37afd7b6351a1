"""Packets from Avro files into one Avro file, which a run that was interrupted goes on with."""

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fastavro
from fastavro.write import Writer

from astrotriton.alerts.packets import PacketError, extended

#: Makes packets with scores of packets.
Score = Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]


def pass_on(paths: Sequence[Path], out: Path, score: Score, batch: int) -> Iterator[int]:
    """Score the packets of files, and write them in their order.

    A batch is on the disk before the next one is begun. What a run that was ended has left in
    ``out`` is kept, and scoring goes on behind it: no packet is lost, and none is there twice.

    Parameters
    ----------
    paths
        Avro object container files, of one schema.
    out
        The file that is written, or gone on with.
    score
        Scores a batch.
    batch
        Packets in one.

    Yields
    ------
    int
        How many packets are in ``out``, whenever there are more.

    Raises
    ------
    PacketError
        If a file is no Avro file, has another schema than the first, or ``out`` has other packets.
    """
    if not paths:
        return
    schema = _schema(paths[0])
    done = _mend(out)
    packets = itertools.islice(_packets(paths, schema), done, None)
    with out.open("a+b" if done or out.exists() else "w+b") as stream:
        writer = Writer(stream, extended(schema), codec="deflate")
        yield done
        while some := list(itertools.islice(packets, batch)):
            for one in score(some):
                writer.write(one)
            writer.flush()
            stream.flush()
            os.fsync(stream.fileno())
            done += len(some)
            yield done


def _schema(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        try:
            schema: Any = fastavro.reader(stream).writer_schema
        except (ValueError, EOFError, KeyError) as error:
            raise PacketError(f"{path} is no Avro file of alerts: {error}") from error
    if not isinstance(schema, dict):
        raise PacketError(f"{path} holds no records")
    return schema


def _packets(paths: Sequence[Path], schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for path in paths:
        if _schema(path) != schema:
            raise PacketError(f"{path} has another schema than {paths[0]}: score it by itself")
        with path.open("rb") as stream:
            packets: Any = fastavro.reader(stream)
            yield from packets


def _mend(out: Path) -> int:
    """Cut off a block that was not written whole; how many packets there are."""
    if not out.exists() or out.stat().st_size == 0:
        return 0
    count, end = 0, 0
    with out.open("rb") as stream:
        try:
            blocks = fastavro.block_reader(stream)
            end = stream.tell()
            for block in blocks:
                count += block.num_records
                end = stream.tell()
        except (EOFError, ValueError):
            if end == 0:
                raise PacketError(f"{out} is no Avro file: give another --out") from None
    os.truncate(out, end)
    return count
