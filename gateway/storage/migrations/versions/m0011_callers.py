"""Whose a run is, so that its caller can ask for it again."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the columns; nobody is known to have asked for what was scored before."""
    op.execute("ALTER TABLE runs ADD caller text CHECK (caller <> '')")
    op.execute("ALTER TABLE jobs ADD caller text CHECK (caller <> '')")
