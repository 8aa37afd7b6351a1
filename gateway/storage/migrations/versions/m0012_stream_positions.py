"""Where on the stream a published event lies."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the columns; of what was published before nobody knows where it lies."""
    op.execute(
        """
        ALTER TABLE outbox
            ADD stream_made_at timestamptz,
            ADD stream_sequence bigint CHECK (stream_sequence >= 1)
        """
    )
    op.execute("CREATE INDEX outbox_on_stream ON outbox (stream_made_at, stream_sequence)")
