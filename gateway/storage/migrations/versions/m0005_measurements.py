"""The error of a detection's SNR, SEP's flags, and published events in the order of their time."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add them."""
    op.execute(
        "ALTER TABLE detections ADD COLUMN snr_err double precision, ADD COLUMN sep_flags integer"
    )
    # Published events are forgotten after a while, which must not read the others.
    op.execute(
        "CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL"
    )
