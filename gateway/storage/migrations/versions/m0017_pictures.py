"""What people look at: cut-outs of science and template, exposures, and where versions disagree."""

from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Add the columns and tables."""
    for plane in ("science", "template"):
        op.execute(f"ALTER TABLE cutouts ADD {plane} bytea CHECK (octet_length({plane}) <= 65536)")
        op.execute(f"ALTER TABLE cutouts ALTER {plane} SET STORAGE EXTERNAL")
    op.execute(
        """
        CREATE TABLE pictures (
            run_id  uuid PRIMARY KEY REFERENCES runs,
            binning integer NOT NULL CHECK (binning >= 1),
            jpeg    bytea NOT NULL CHECK (octet_length(jpeg) <= 67108864)
        )
        """
    )
    op.execute("ALTER TABLE pictures ALTER jpeg SET STORAGE EXTERNAL")
    op.execute(
        """
        CREATE TABLE disputes (
            detection_id uuid NOT NULL REFERENCES detections,
            model_id     uuid NOT NULL REFERENCES models,
            confidence   double precision CHECK (confidence BETWEEN 0 AND 1),
            is_real      boolean NOT NULL,
            PRIMARY KEY (detection_id, model_id)
        )
        """
    )
    op.execute("CREATE INDEX runs_exposure_digest ON runs (exposure_digest, exposure_hdu)")
