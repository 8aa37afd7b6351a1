"""How well versions do: sketches of latency, Triton's counts, validations, drift, and MLflow."""

from alembic import op

revision = "0006"
down_revision = "0005"

_VERSION = """
    model_name    text NOT NULL CHECK (model_name <> ''),
    model_version integer NOT NULL CHECK (model_version >= 1)
"""


def upgrade() -> None:
    """Create the tables."""
    op.execute(
        f"""
        CREATE TABLE performance (
            gateway uuid NOT NULL,
            minute  timestamptz NOT NULL,
            {_VERSION},
            measure text NOT NULL CHECK (measure <> ''),
            bins    integer[] NOT NULL,
            counts  bigint[] NOT NULL CHECK (cardinality(counts) = cardinality(bins)),
            total   double precision NOT NULL,
            PRIMARY KEY (model_name, model_version, minute, measure, gateway)
        )
        """
    )
    op.execute("CREATE INDEX performance_minute ON performance (minute)")
    op.execute(
        f"""
        CREATE TABLE triton_statistics (
            server   text NOT NULL,
            minute   timestamptz NOT NULL,
            {_VERSION},
            taken_at timestamptz NOT NULL,
            first    jsonb NOT NULL,
            last     jsonb NOT NULL,
            PRIMARY KEY (model_name, model_version, minute, server)
        )
        """
    )
    op.execute("CREATE INDEX triton_statistics_minute ON triton_statistics (minute)")
    op.execute(
        f"""
        CREATE TABLE validations (
            id              uuid PRIMARY KEY,
            {_VERSION},
            compare_version integer CHECK (compare_version >= 1),
            dataset         text NOT NULL CHECK (dataset <> ''),
            status          text NOT NULL
                CHECK (status IN ('queued', 'running', 'complete', 'failed')),
            done            integer NOT NULL DEFAULT 0 CHECK (done BETWEEN 0 AND of),
            of              integer NOT NULL DEFAULT 0,
            requested_by    text NOT NULL,
            result          jsonb,
            passed          boolean,
            problem         jsonb,
            mlflow_run_id   text,
            created_at      timestamptz NOT NULL DEFAULT now(),
            heartbeat_at    timestamptz NOT NULL DEFAULT now(),
            finished_at     timestamptz,
            CHECK ((status = 'complete') = (result IS NOT NULL)),
            CHECK ((status = 'complete') = (passed IS NOT NULL)),
            CHECK ((status = 'failed') = (problem IS NOT NULL)),
            CHECK ((status IN ('complete', 'failed')) = (finished_at IS NOT NULL))
        )
        """
    )
    op.execute("CREATE INDEX validations_model ON validations (model_name, model_version, id)")
    op.execute(
        "CREATE INDEX validations_unfinished ON validations (heartbeat_at) "
        "WHERE finished_at IS NULL"
    )
    op.execute(
        f"""
        CREATE TABLE drift_samples (
            run_id     uuid PRIMARY KEY,
            {_VERSION},
            created_at timestamptz NOT NULL,
            described  jsonb NOT NULL
        )
        """
    )
    op.execute(
        "CREATE INDEX drift_samples_model ON drift_samples (model_name, model_version, created_at)"
    )
    op.execute(
        f"""
        CREATE TABLE drift_baselines (
            {_VERSION},
            described   jsonb NOT NULL,
            description text NOT NULL,
            set_at      timestamptz NOT NULL,
            PRIMARY KEY (model_name, model_version)
        )
        """
    )
    op.execute(
        f"""
        CREATE TABLE drift_checks (
            id              uuid PRIMARY KEY,
            {_VERSION},
            created_at      timestamptz NOT NULL,
            since           timestamptz NOT NULL,
            until           timestamptz NOT NULL CHECK (until > since),
            status          text NOT NULL
                CHECK (status IN ('steady', 'drifted', 'too-little-data', 'no-baseline')),
            result          jsonb NOT NULL,
            report          text NOT NULL CHECK (report IN ('off', 'pending', 'ready')),
            report_detail   text,
            report_due_at   timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX drift_checks_model ON drift_checks (model_name, model_version, id)")
    op.execute("CREATE INDEX drift_checks_pending ON drift_checks (id) WHERE report = 'pending'")
    op.execute(
        f"""
        CREATE TABLE served_runs (
            {_VERSION},
            mlflow_run_id text NOT NULL,
            logged_until  timestamptz NOT NULL,
            PRIMARY KEY (model_name, model_version)
        )
        """
    )
