"""Canaries that end by themselves: how far each is, what was seen since, and what happened."""

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Create the tables."""
    op.execute(
        """
        CREATE TABLE canaries (
            id            uuid PRIMARY KEY,
            model_name    text NOT NULL CHECK (model_name <> ''),
            champion      integer NOT NULL CHECK (champion >= 1),
            challenger    integer NOT NULL CHECK (challenger >= 1 AND challenger <> champion),
            status        text NOT NULL
                CHECK (status IN ('running', 'promoted', 'sent-back', 'ended')),
            step          integer NOT NULL DEFAULT 0 CHECK (step >= 0),
            step_began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
            kept          jsonb NOT NULL,
            reason        text NOT NULL,
            began_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
            finished_at   timestamptz,
            CHECK ((status = 'running') = (finished_at IS NULL))
        )
        """
    )
    op.execute(
        "CREATE UNIQUE INDEX canaries_running ON canaries (model_name) WHERE status = 'running'"
    )
    op.execute("CREATE INDEX canaries_model ON canaries (model_name, id)")
    op.execute(
        """
        CREATE TABLE canary_steps (
            id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            canary_id     uuid NOT NULL REFERENCES canaries,
            step          jsonb NOT NULL,
            created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
            mlflow_run_id text
        )
        """
    )
    op.execute("CREATE INDEX canary_steps_canary ON canary_steps (canary_id, id)")
    op.execute(
        "CREATE INDEX canary_steps_unlogged ON canary_steps (id) WHERE mlflow_run_id IS NULL"
    )
    op.execute(
        """
        CREATE TABLE canary_seen (
            id        uuid PRIMARY KEY,
            canary_id uuid NOT NULL REFERENCES canaries,
            seen      jsonb NOT NULL
        )
        """
    )
    op.execute("CREATE INDEX canary_seen_canary ON canary_seen (canary_id, id)")
    op.execute(
        """
        CREATE TABLE canary_sources (
            detection_id uuid PRIMARY KEY,
            canary_id    uuid NOT NULL REFERENCES canaries,
            champion     double precision NOT NULL CHECK (champion BETWEEN 0 AND 1),
            challenger   double precision NOT NULL CHECK (challenger BETWEEN 0 AND 1)
        )
        """
    )
    op.execute("CREATE INDEX canary_sources_canary ON canary_sources (canary_id)")
