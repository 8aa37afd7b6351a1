"""How an exposure was taken: time, filter, unit and zero point; and magnitudes."""

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the columns, and the indexes that exposures are looked up by."""
    op.execute(
        """
        ALTER TABLE runs
            ADD mjd_mid            double precision,
            ADD time_scale         text,
            ADD observed_at        timestamptz,
            ADD time_source        text,
            ADD exposure_time      double precision CHECK (exposure_time > 0),
            ADD filter             text,
            ADD flux_unit          text,
            ADD zero_point         double precision,
            ADD zero_point_source  text,
            ADD limiting_magnitude double precision
        """
    )
    op.execute(
        "ALTER TABLE detections ADD mag double precision, "
        "ADD mag_err double precision CHECK (mag_err >= 0)"
    )
    op.execute("CREATE INDEX runs_observed_at ON runs (observed_at) WHERE observed_at IS NOT NULL")
    op.execute("CREATE INDEX runs_filter ON runs (filter, observed_at) WHERE filter IS NOT NULL")
