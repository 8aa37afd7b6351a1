"""What lists are made of: the order of commits, footprints, and indexes of what is sorted by."""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the columns and indexes.

    The default of ``committed_in`` is evaluated for each run that is inserted, by an earlier
    release too; runs of before share the transaction of the migration.
    """
    op.execute(
        """
        ALTER TABLE runs
            ADD committed_in xid8 NOT NULL DEFAULT pg_current_xact_id(),
            ADD sky_ra       double precision,
            ADD sky_dec      double precision,
            ADD sky_radius   double precision CHECK (sky_radius BETWEEN 0 AND 180)
        """
    )
    op.execute("CREATE INDEX runs_committed_in ON runs (committed_in, id)")
    op.execute("CREATE INDEX runs_created_at ON runs (created_at)")
    op.execute(
        "CREATE INDEX runs_observed_at_id ON runs (observed_at, id) WHERE observed_at IS NOT NULL"
    )
    op.execute("ALTER TABLE jobs ADD exposure_name text")
    op.execute("CREATE INDEX jobs_not_complete ON jobs (id) WHERE status <> 'complete'")
    for name in ("confidence", "snr", "mag"):
        op.execute(
            f"CREATE INDEX detections_{name} ON detections ({name}, id) WHERE {name} IS NOT NULL"
        )
    op.execute("CREATE INDEX detections_flags ON detections USING gin (flags) WHERE flags <> '{}'")
