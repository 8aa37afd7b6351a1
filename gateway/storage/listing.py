"""Pages of detections: what is looked for, in which order, and the statement that finds it.

A page begins after a detection, of which the order's own values are looked up (keyset pagination):
nothing is counted off, so that a page costs the same wherever it lies.
"""

from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec
from asyncpg import Record

from astrotriton.gateway.storage.database import Connection
from astrotriton.gateway.storage.healpix import cone
from astrotriton.gateway.storage.runs import EXPOSURE
from astrotriton.wire.detections import Label, Outcome, Sort

#: What is known of a detection and its run, as `stored_detection` reads it.
SELECT = f"""
    SELECT d.*, r.created_at, r.threshold, r.tta, r.guarantee, r.prevalence,
           {", ".join(f"r.{name}" for name in EXPOSURE)},
           m.name AS model_name, m.version AS model_version, m.digest AS model_digest, r.model_id
"""
JOINS = "JOIN runs r ON r.id = d.run_id JOIN models m ON m.id = r.model_id"

# What is picked out before it is sorted, rather than the order gone through: a cone's detections up
# to so many, and those of so many runs.
_FEW = 2000
_FEW_RUNS = 20

_NIGHT = timedelta(days=1)

_BY_VALUE = ("confidence", "snr", "mag", "entropy")


class _Order(NamedTuple):
    """An order of detections.

    Attributes
    ----------
    by
        What is sorted by.
    following
        What follows a detection in it; names in braces are columns of `_PLACE`. It begins with what
        an index can begin at.
    known
        What must be known of a detection to have a place in it.
    """

    by: str
    following: str
    known: str | None = None


def _order(sort: Sort, *, backwards: bool = False) -> _Order:
    up, down = (("ASC", ">"), ("DESC", "<"))[:: -1 if backwards else 1]
    rest = f"(r.id <> {{run_id}}::uuid OR d.rank {up[1]} {{rank}}::int)"
    if sort == "newest":
        # Said of both sides of the join: the planner does not conclude one from the other.
        begins = f"r.id {down[1]}= {{run_id}}::uuid AND d.run_id {down[1]}= {{run_id}}::uuid"
        return _Order(f"r.id {down[0]}, d.rank {up[0]}", f"{begins} AND {rest}")
    if sort == "committed":
        place = "({committed_in}::text::xid8, {run_id}::uuid)"
        return _Order(
            f"r.committed_in {up[0]}, r.id {up[0]}, d.rank {up[0]}",
            f"(r.committed_in, r.id) {up[1]}= {place} AND {rest}",
        )
    name = sort.removeprefix("-")
    way, beyond = down if sort.startswith("-") else up
    if name in _BY_VALUE:
        return _Order(
            f"d.{name} {way}, d.id {way}",
            f"(d.{name}, d.id) {beyond} ({{{name}}}::float8, {{id}}::uuid)",
            f"d.{name} IS NOT NULL",
        )
    return _Order(
        f"r.observed_at {way}, r.id {way}, d.rank {up[0]}",
        f"(r.observed_at, r.id) {beyond}= ({{observed_at}}::text::timestamptz, {{run_id}}::uuid)"
        f" AND {rest}",
        "r.observed_at IS NOT NULL",
    )


_PLACE = """
    SELECT d.id, d.run_id, d.rank, d.confidence, d.snr, d.mag, d.entropy,
        r.observed_at::text AS observed_at, r.committed_in::text AS committed_in
    FROM detections d JOIN runs r ON r.id = d.run_id
"""

# Runs of transactions before all that are still under way: none can appear among them any more.
_FRONTIER = f"""
    {_PLACE} WHERE (d.run_id, d.rank) = (
        SELECT c.id, e.rank FROM runs c CROSS JOIN LATERAL (
            SELECT rank FROM detections WHERE run_id = c.id ORDER BY rank DESC LIMIT 1
        ) e
        WHERE c.committed_in < pg_snapshot_xmin(pg_current_snapshot())
        ORDER BY c.committed_in DESC, c.id DESC LIMIT 1
    )
"""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which detections are looked for; None: any.

    ``cone`` is a position and a radius in ICRS degrees; ``since`` and ``until`` bound the time of
    scoring, ``observed_since`` and ``observed_until`` mid-exposure, and ``night`` is the time from
    which on its 24 hours are. ``flags`` must all be raised, and none of ``without_flags``.
    ``disputed`` are those that another version judged otherwise, on the same exposure. ``box`` is
    the least and the greatest x, and the least and the greatest y, pixels.
    """

    run_id: UUID | None = None
    exposure: str | None = None
    model_version: int | None = None
    is_real: bool | None = None
    outcome: Outcome | None = None
    min_confidence: float | None = None
    max_confidence: float | None = None
    min_snr: float | None = None
    max_snr: float | None = None
    min_mag: float | None = None
    max_mag: float | None = None
    polarity: int | None = None
    flags: tuple[str, ...] = ()
    without_flags: tuple[str, ...] = ()
    label: Label | Literal["none"] | None = None
    disputed: bool | None = None
    since: datetime | None = None
    until: datetime | None = None
    observed_since: datetime | None = None
    observed_until: datetime | None = None
    night: datetime | None = None
    filter: str | None = None
    cone: tuple[float, float, float] | None = None
    box: tuple[float, float, float, float] | None = None


class _Values(list[Any]):
    """The values of a statement, each placed where it is used."""

    def place(self, value: Any) -> str:
        self.append(value)
        return f"${len(self)}"


async def find_place(connection: Connection, detection_id: UUID) -> Record | None:
    """Where a detection stands in every order; None if there is none of that id."""
    return await connection.fetchrow(f"{_PLACE} WHERE d.id = $1", detection_id)


async def find_frontier(connection: Connection) -> Record | None:
    """The last detection, in the order of commits, before which none can appear any more."""
    return await connection.fetchrow(_FRONTIER)


class Picked(NamedTuple):
    """What is picked out before it is sorted, because it is little.

    Attributes
    ----------
    cone
        The cone's detections, by its cells. Otherwise the order is gone through, to see what lies
        in the cone: that is faster where very much does.
    runs
        All runs that match, where they are few and the order is one of all detections.
    disputed
        All disputed detections, where they are few and it is these that are looked for.
    """

    cone: bool = True
    runs: list[UUID] | None = None
    disputed: bool = False


async def pick(connection: Connection, wanted: Filter, sort: Sort) -> Picked:
    """See what is little enough to be picked out, so that a page costs what is on it."""
    by_cells = wanted.cone is None or await _few_in_cone(connection, wanted.cone)
    runs, disputed = None, False
    if not by_cells or wanted.cone is None:
        runs = await _few_runs(connection, wanted, sort)
    if wanted.disputed and wanted.cone is None and runs is None:
        found = await connection.fetchval(
            "SELECT count(*) FROM (SELECT FROM disputes LIMIT $1) counted", _FEW + 1
        )
        disputed = int(found) <= _FEW
    return Picked(by_cells, runs, disputed)


async def _few_in_cone(connection: Connection, within: tuple[float, float, float]) -> bool:
    first, last = cone(*within)
    # Each range ends where enough are found, and so does the whole.
    found = await connection.fetchval(
        """
        SELECT count(*) FROM (
            SELECT FROM unnest($1::bigint[], $2::bigint[]) AS range (first, last)
            CROSS JOIN LATERAL (
                SELECT FROM detections WHERE cell BETWEEN range.first AND range.last LIMIT $3
            ) n LIMIT $3
        ) counted
        """,
        *(first, last, _FEW + 1),
    )
    return int(found) <= _FEW


async def _few_runs(connection: Connection, wanted: Filter, sort: Sort) -> list[UUID] | None:
    if sort.removeprefix("-") not in _BY_VALUE:
        return None
    if wanted.run_id is not None:
        return [wanted.run_id]
    values = _Values()
    conditions = _of_runs(values, wanted)
    if not conditions:
        return None
    rows = await connection.fetch(
        "SELECT r.id FROM runs r JOIN models m ON m.id = r.model_id"
        f" WHERE {' AND '.join(conditions)} LIMIT {values.place(_FEW_RUNS + 1)}",
        *values,
    )
    return [row["id"] for row in rows] if len(rows) <= _FEW_RUNS else None


def listing(
    wanted: Filter,
    after: Record | None,
    limit: int,
    sort: Sort = "newest",
    *,
    picked: Picked = Picked(),  # noqa: B008
    until: Record | None = None,
    backwards: bool = False,
) -> tuple[str, list[Any]]:
    """The statement that finds a page, and its values.

    Parameters
    ----------
    wanted
        What is looked for.
    after
        The place of the last detection of the page before; None: from the beginning.
    limit
        How many are on the page.
    sort
        Their order.
    picked
        What `pick` has found to be little.
    until
        The place of the last detection that may be on a page; for the order of commits.
    backwards
        Whether to go the other way: from the detection before ``after`` on.
    """
    values = _Values()
    order = _order(sort, backwards=backwards)
    source, conditions = "detections d", []
    if order.known is not None:
        conditions.append(order.known)
    if picked.runs is not None:
        few = f"run_id = ANY ({values.place(picked.runs)}::uuid[])"
        # OFFSET keeps the planner from going through the whole order all the same.
        source = f"(SELECT * FROM detections WHERE {few} OFFSET 0) d"
    elif picked.disputed:
        ids = "SELECT detection_id FROM disputes"
        source = f"(SELECT * FROM detections WHERE id IN ({ids}) OFFSET 0) d"
    if wanted.cone is not None:
        if picked.cone:
            source = _near(values, wanted.cone)
        else:
            conditions.append(_reaches(values, wanted.cone))
        conditions.append(_within(values, wanted.cone))
    if after is not None:
        names = [name for name in after.keys() if f"{{{name}}}" in order.following]  # noqa: SIM118
        places = {name: values.place(after[name]) for name in names}
        conditions.append(order.following.format(**places))
    if until is not None:
        last = f"({values.place(until['committed_in'])}::text::xid8,"
        last += f" {values.place(until['run_id'])}::uuid)"
        conditions.append(f"(r.committed_in, r.id) <= {last}")
    conditions += _of_runs(values, wanted) + _of_detections(values, wanted)
    where = " AND ".join(conditions) or "true"
    limited = f"ORDER BY {order.by} LIMIT {values.place(limit)}"
    return f"{SELECT} FROM {source} {JOINS} WHERE {where} {limited}", values


def _of_runs(values: _Values, wanted: Filter) -> list[str]:
    night = wanted.night
    return [
        condition.format(values.place(value))
        for condition, value in (
            ("r.exposure_name = {}", wanted.exposure),
            ("m.version = {}", wanted.model_version),
            ("r.created_at >= to_timestamp({}::float8)", _seconds(wanted.since)),
            ("r.created_at < to_timestamp({}::float8)", _seconds(wanted.until)),
            ("r.observed_at >= to_timestamp({}::float8)", _seconds(wanted.observed_since)),
            ("r.observed_at < to_timestamp({}::float8)", _seconds(wanted.observed_until)),
            ("r.observed_at >= to_timestamp({}::float8)", _seconds(night)),
            ("r.observed_at < to_timestamp({}::float8)", _seconds(night and night + _NIGHT)),
            ("r.filter = {}", wanted.filter),
        )
        if value is not None
    ]


def _of_detections(values: _Values, wanted: Filter) -> list[str]:
    found = [
        condition.format(values.place(value))
        for condition, value in (
            ("d.run_id = {}", wanted.run_id),
            ("d.is_real = {}", wanted.is_real),
            ("d.outcome = {}", wanted.outcome),
            ("d.confidence >= {}", wanted.min_confidence),
            ("d.confidence <= {}", wanted.max_confidence),
            ("d.snr >= {}", wanted.min_snr),
            ("d.snr <= {}", wanted.max_snr),
            ("d.mag >= {}", wanted.min_mag),
            ("d.mag <= {}", wanted.max_mag),
            ("d.polarity = {}", wanted.polarity),
            ("d.flags <> '{{}}' AND d.flags @> {}::text[]", list(wanted.flags) or None),
            ("NOT d.flags && {}::text[]", list(wanted.without_flags) or None),
            ("d.label = {}", None if wanted.label == "none" else wanted.label),
        )
        if value is not None
    ]
    if wanted.label == "none":
        found.append("d.label IS NULL")
    if wanted.disputed is not None:
        said = "" if wanted.disputed else "NOT "
        found.append(f"{said}EXISTS (SELECT FROM disputes p WHERE p.detection_id = d.id)")
    if wanted.box is not None:
        left, right, low, high = (f"{values.place(edge)}::float8" for edge in wanted.box)
        found.append(f"d.x BETWEEN {left} AND {right} AND d.y BETWEEN {low} AND {high}")
    return found


def _near(values: _Values, wanted: tuple[float, float, float]) -> str:
    first, last = cone(*wanted)
    # Each range by itself (OFFSET sees to it), and before the page is cut. Joined with all of
    # them, the planner takes them to hold most of the table, and reads all of it.
    return f"""
        (WITH near AS MATERIALIZED (
            SELECT n.* FROM unnest({values.place(first)}::bigint[], {values.place(last)}::bigint[])
                AS range (first, last)
            CROSS JOIN LATERAL (
                SELECT * FROM detections WHERE cell BETWEEN range.first AND range.last OFFSET 0
            ) n
        ) SELECT * FROM near) d
    """


def _within(values: _Values, wanted: tuple[float, float, float]) -> str:
    """Haversines are compared, which are exact for small angles too."""
    ra, dec, radius = _placed(values, wanted)
    return f"{_haversine('d.ra', 'd.dec', ra, dec)} <= power(sind({radius}::float8 / 2), 2)"


def _reaches(values: _Values, wanted: tuple[float, float, float]) -> str:
    """Whether a run has detections near enough; of one that was stored before, it is not known."""
    ra, dec, radius = _placed(values, wanted)
    most = f"power(sind(least(r.sky_radius + {radius}::float8, 180) / 2), 2)"
    return f"(r.sky_radius IS NULL OR {_haversine('r.sky_ra', 'r.sky_dec', ra, dec)} <= {most})"


def _placed(values: _Values, wanted: tuple[float, float, float]) -> tuple[str, str, str]:
    ra, dec, radius = wanted
    # PostgreSQL refuses to square what is too near to 0.
    return values.place(round(ra, 12)), values.place(round(dec, 12)), values.place(radius)


def _haversine(ra: str, dec: str, at_ra: str, at_dec: str) -> str:
    return (
        f"power(sind(({dec} - {at_dec}::float8) / 2), 2) + cosd({dec}) * cosd({at_dec}::float8)"
        f" * power(sind(({ra} - {at_ra}::float8) / 2), 2)"
    )


def _seconds(time: datetime | None) -> float | None:
    """Since 1970: the first and the last year overflow in other zones than their own."""
    return None if time is None else time.timestamp()
