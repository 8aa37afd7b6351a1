"""Which share of real sources a route states, and a run was scored for."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add the columns; null: the share that the version was calibrated on."""
    op.execute("ALTER TABLE routes ADD prevalence jsonb")
    op.execute("ALTER TABLE runs ADD prevalence jsonb")
