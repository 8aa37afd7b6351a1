"""Which images a version was shown."""

from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the column; what was scored before was scored by the difference alone."""
    op.execute("ALTER TABLE runs ADD planes text[] NOT NULL DEFAULT '{difference}'")
