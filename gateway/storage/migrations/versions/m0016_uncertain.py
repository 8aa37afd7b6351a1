"""An index for the order by what is most uncertain."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the index."""
    op.execute(
        "CREATE INDEX detections_entropy ON detections (entropy, id) WHERE entropy IS NOT NULL"
    )
