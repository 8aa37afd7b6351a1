"""Packets scored by a gateway, many at a time."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from astrotriton.alerts.packets import FIELD, PacketError, Stamp, refusal, score_of, stamp_of
from astrotriton.client import Client, InferStamps


def scored(
    client: Client,
    packets: Sequence[Mapping[str, Any]],
    how: InferStamps | None = None,
) -> list[dict[str, Any]]:
    """Packets with their scores, in their order.

    Stamps of one size go in one request. A packet without a stamp that can be scored comes back
    with the `problem`. The same packets get the same runs, however often they are sent.

    Parameters
    ----------
    client
        Of the gateway.
    packets
        Of ZTF or Rubin, as fastavro reads them.
    how
        Threshold, version and whatever else holds for all of them.

    Raises
    ------
    ClientError
        If the gateway cannot be reached, or refuses a request.
    """
    found: dict[int, dict[str, Any]] = {}
    by_shape: dict[tuple[int, ...], list[tuple[int, Stamp]]] = {}
    for place, packet in enumerate(packets):
        try:
            stamp = stamp_of(packet)
        except (PacketError, ValueError) as error:
            found[place] = refusal(str(error))
            continue
        by_shape.setdefault(stamp.pixels.shape, []).append((place, stamp))
    for alike in by_shape.values():
        stream = io.BytesIO()
        np.save(stream, np.stack([stamp.pixels for _, stamp in alike]))
        request = msgspec.structs.replace(
            how or InferStamps(), stamps=[stamp.described for _, stamp in alike]
        )
        key = hashlib.sha256(stream.getvalue() + msgspec.json.encode(request)).hexdigest()
        answer = client.score_stamps(stream.getvalue(), request, idempotency_key=key)
        for (place, _), stamp_answer in zip(alike, answer.stamps, strict=True):
            found[place] = score_of(stamp_answer)
    return [{**packet, FIELD: found[place]} for place, packet in enumerate(packets)]
