"""The table `validations`: versions scored against truth, or being scored."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from asyncpg import Record

from astrotriton.gateway.storage.database import Connection
from astrotriton.wire.models import VersionRef
from astrotriton.wire.problems import Problem
from astrotriton.wire.validation import Curves, Gate, Validation, ValidationSummary

_COLUMNS = """
    id, model_name, model_version, compare_version, dataset, status, done, of, requested_by,
    created_at, finished_at, problem, result, passed, mlflow_run_id
"""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a validation found; None for a figure that is not a number."""

    description: str
    dataset_digest: str
    source: str
    gates: list[Gate]
    figures: dict[str, float | None]
    compared: dict[str, float | None] = {}
    curves: Curves
    compared_curves: Curves | None = None


async def insert_validation(
    connection: Connection,
    validation_id: UUID,
    model: VersionRef,
    compare_version: int | None,
    dataset: str,
    requested_by: str,
) -> None:
    """Add a validation that waits for its turn."""
    await connection.execute(
        """
        INSERT INTO validations (
            id, model_name, model_version, compare_version, dataset, requested_by, status
        ) VALUES ($1, $2, $3, $4, $5, $6, 'queued')
        """,
        *(validation_id, model.name, model.version, compare_version, dataset, requested_by),
    )


async def beat(connection: Connection, validation_id: UUID, done: int, of: int) -> None:
    """Note that a validation is being worked on, and how far it is."""
    await connection.execute(
        """
        UPDATE validations SET heartbeat_at = now(), done = $2, of = $3,
            status = CASE WHEN $3 > 0 THEN 'running' ELSE status END
        WHERE id = $1 AND finished_at IS NULL
        """,
        *(validation_id, done, of),
    )


async def complete(
    connection: Connection, validation_id: UUID, result: Result, passed: bool
) -> bool:
    """Store what was found; False if the validation was given up before."""
    status = await connection.execute(
        """
        UPDATE validations SET status = 'complete', finished_at = now(), done = of, result = $2,
            passed = $3
        WHERE id = $1 AND finished_at IS NULL
        """,
        *(validation_id, msgspec.json.encode(result).decode(), passed),
    )
    return bool(status == "UPDATE 1")


async def fail(connection: Connection, validation_id: UUID, problem: Problem) -> None:
    """Give a validation up."""
    await connection.execute(
        """
        UPDATE validations SET status = 'failed', finished_at = now(), problem = $2
        WHERE id = $1 AND finished_at IS NULL
        """,
        *(validation_id, msgspec.json.encode(problem).decode()),
    )


async def fail_abandoned(connection: Connection, silence: timedelta, problem: Problem) -> None:
    """Give up those that nobody has worked on for so long."""
    await connection.execute(
        """
        UPDATE validations SET status = 'failed', finished_at = now(), problem = $2
        WHERE finished_at IS NULL AND heartbeat_at < now() - $1::interval
        """,
        *(silence, msgspec.json.encode(problem).decode()),
    )


async def find_validation(connection: Connection, validation_id: UUID) -> Validation | None:
    """A validation; None if there is none of that id."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM validations WHERE id = $1", validation_id
    )
    return None if row is None else _validation(row)


async def list_validations(
    connection: Connection, name: str, version: int | None, limit: int
) -> list[Validation]:
    """The newest validations of a model, or of one version."""
    rows = await connection.fetch(
        f"""
        SELECT {_COLUMNS} FROM validations
        WHERE model_name = $1 AND ($2::integer IS NULL OR model_version = $2)
        ORDER BY id DESC LIMIT $3
        """,
        *(name, version, limit),
    )
    return [_validation(row) for row in rows]


async def last_validations(
    connection: Connection, name: str, version: int, limit: int
) -> list[ValidationSummary]:
    """The newest complete validations of a version."""
    rows = await connection.fetch(
        """
        SELECT id, finished_at, dataset, passed, result -> 'figures' AS figures FROM validations
        WHERE model_name = $1 AND model_version = $2 AND status = 'complete'
        ORDER BY id DESC LIMIT $3
        """,
        *(name, version, limit),
    )
    return [
        ValidationSummary(
            id=row["id"],
            finished_at=row["finished_at"],
            dataset=row["dataset"],
            passed=row["passed"],
            figures=msgspec.json.decode(row["figures"]),
        )
        for row in rows
    ]


async def latest_of_versions(connection: Connection, name: str) -> list[Record]:
    """Of each version's newest complete validation: ``model_version``, ``passed``, ``ece``."""
    return await connection.fetch(
        """
        SELECT DISTINCT ON (model_version) model_version, passed,
            (result -> 'figures' ->> 'ece')::float8 AS ece
        FROM validations WHERE model_name = $1 AND status = 'complete'
        ORDER BY model_version, id DESC
        """,
        name,
    )


async def find_unlogged(connection: Connection, name: str, since: datetime) -> Validation | None:
    """The oldest complete validation that MLflow has not got, kept from other gateways."""
    row = await connection.fetchrow(
        f"""
        SELECT {_COLUMNS} FROM validations
        WHERE model_name = $1 AND status = 'complete' AND mlflow_run_id IS NULL
            AND finished_at >= $2
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
        """,
        *(name, since),
    )
    return None if row is None else _validation(row)


async def find_result(connection: Connection, validation_id: UUID) -> Result:
    """What a complete validation found."""
    content = await connection.fetchval(
        "SELECT result FROM validations WHERE id = $1", validation_id
    )
    return msgspec.json.decode(content, type=Result)


async def set_logged(connection: Connection, validation_id: UUID, mlflow_run_id: str) -> None:
    """Note the MLflow run that a validation was logged to."""
    await connection.execute(
        "UPDATE validations SET mlflow_run_id = $2 WHERE id = $1", validation_id, mlflow_run_id
    )


def _validation(row: Record) -> Validation:
    compared = row["compare_version"]
    found: dict[str, Any] = {}
    if row["result"] is not None:
        result = msgspec.json.decode(row["result"], type=Result)
        found = {
            "description": result.description,
            "dataset_digest": result.dataset_digest,
            "gates": result.gates,
            "figures": result.figures,
            "compared": result.compared,
            "curves": result.curves,
            "compared_curves": result.compared_curves,
        }
    return Validation(
        id=row["id"],
        model=VersionRef(name=row["model_name"], version=row["model_version"]),
        compare_with=compared and VersionRef(name=row["model_name"], version=compared),
        dataset=row["dataset"],
        status=row["status"],
        progress=1.0 if row["status"] == "complete" else row["done"] / max(row["of"], 1),
        fields=row["of"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        requested_by=row["requested_by"],
        passed=row["passed"],
        mlflow_run_id=row["mlflow_run_id"],
        problem=row["problem"] and msgspec.json.decode(row["problem"], type=Problem),
        **found,
    )
