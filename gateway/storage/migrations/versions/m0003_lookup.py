"""What looking runs and detections up needs: progress, sky positions, labels, and cut-outs."""

import sqlalchemy as sa
from alembic import op

from astrotriton.gateway.storage.healpix import cells

revision = "0003"
down_revision = "0002"

_MEASURES = (
    "confidence_low",
    "confidence_high",
    "entropy",
    "tta_std",
    "ensemble_std",
    "psf_match",
    "sharpness",
    "trail",
    "edge_distance",
)


def upgrade() -> None:
    """Add the columns and tables."""
    op.execute(
        """
        ALTER TABLE runs
            ADD depth              double precision,
            ADD saturated_fraction double precision CHECK (saturated_fraction BETWEEN 0 AND 1),
            ADD tta                boolean NOT NULL DEFAULT false,
            ADD guarantee          jsonb
        """
    )
    columns = ", ".join(f"ADD {name} double precision" for name in _MEASURES)
    op.execute(
        f"""
        ALTER TABLE detections {columns},
            ADD features double precision[],
            ADD cell     bigint,
            ADD label    text CHECK (label IN ('real', 'artefact', 'unsure'))
        """
    )
    _fill_cells()
    op.execute(
        "ALTER TABLE detections ADD CONSTRAINT detections_cell_known "
        "CHECK ((cell IS NULL) = (ra IS NULL))"
    )
    op.execute("CREATE INDEX detections_cell ON detections (cell) WHERE cell IS NOT NULL")
    op.execute("CREATE INDEX detections_label ON detections (label, id) WHERE label IS NOT NULL")
    op.execute("CREATE INDEX runs_exposure_name ON runs (exposure_name)")
    op.execute(
        """
        CREATE TABLE cutouts (
            detection_id uuid PRIMARY KEY REFERENCES detections,
            png          bytea NOT NULL CHECK (octet_length(png) <= 65536)
        )
        """
    )
    op.execute("ALTER TABLE cutouts ALTER png SET STORAGE EXTERNAL")
    op.execute(
        """
        CREATE TABLE labels (
            id           uuid PRIMARY KEY,
            detection_id uuid NOT NULL REFERENCES detections,
            label        text CHECK (label IN ('real', 'artefact', 'unsure')),
            comment      text,
            author       text NOT NULL,
            created_at   timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX labels_detection_id ON labels (detection_id, id)")
    op.execute(
        """
        CREATE TABLE jobs (
            id           uuid PRIMARY KEY,
            status       text NOT NULL
                CHECK (status IN ('queued', 'running', 'complete', 'failed')),
            done         integer NOT NULL DEFAULT 0 CHECK (done BETWEEN 0 AND of),
            of           integer NOT NULL DEFAULT 0,
            problem      jsonb,
            created_at   timestamptz NOT NULL DEFAULT now(),
            heartbeat_at timestamptz NOT NULL DEFAULT now(),
            finished_at  timestamptz,
            CHECK ((status = 'failed') = (problem IS NOT NULL)),
            CHECK ((status IN ('complete', 'failed')) = (finished_at IS NOT NULL))
        )
        """
    )
    op.execute("CREATE INDEX jobs_unfinished ON jobs (heartbeat_at) WHERE finished_at IS NULL")
    op.execute(
        """
        CREATE TABLE idempotency_keys (
            caller     text NOT NULL,
            key        text NOT NULL CHECK (key <> ''),
            digest     text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
            run_id     uuid NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (caller, key)
        )
        """
    )
    op.execute("CREATE INDEX idempotency_keys_run_id ON idempotency_keys (run_id)")
    op.execute("CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at)")


def _fill_cells() -> None:
    """Of the detections that were stored before there were any."""
    connection = op.get_bind()
    rows = connection.execute(
        sa.text("SELECT id, ra, dec FROM detections WHERE ra IS NOT NULL")
    ).all()
    if rows:
        connection.execute(
            sa.text("UPDATE detections SET cell = :cell WHERE id = :id"),
            [
                {"id": row.id, "cell": cell}
                for row, cell in zip(
                    rows, cells([row.ra for row in rows], [row.dec for row in rows]), strict=True
                )
            ],
        )
