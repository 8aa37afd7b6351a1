"""Which share of real sources a route states, and a run was scored for."""

from pathlib import Path

from alembic import op

revision = "0018"
# It needs nothing of the one before, which was written at the same time.
_BEFORE = any(Path(__file__).parent.glob("m0017_*.py"))
down_revision = "0017" if _BEFORE else "0016"


def upgrade() -> None:
    """Add the columns; null: the share that the version was calibrated on."""
    op.execute("ALTER TABLE routes ADD prevalence jsonb")
    op.execute("ALTER TABLE runs ADD prevalence jsonb")
