"""Why a candidate was not scored; one without pixels has none."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the reason, and let the pixels be unknown."""
    op.execute(
        "ALTER TABLE detections ADD unscored_reason text CHECK "
        "(unscored_reason IN ('off_image', 'not_a_number', 'masked', 'no_wcs')), "
        "ALTER x DROP NOT NULL, ALTER y DROP NOT NULL"
    )
