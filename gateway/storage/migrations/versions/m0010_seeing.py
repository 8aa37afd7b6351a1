"""Who says how wide point sources are in an exposure."""

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the column; what was scored before measured its seeing, or knew none."""
    op.execute(
        """
        ALTER TABLE runs ADD seeing_source text NOT NULL DEFAULT 'measured'
            CHECK (seeing_source IN ('request', 'psf', 'header', 'measured', 'assumed'))
        """
    )
    op.execute("UPDATE runs SET seeing_source = 'assumed' WHERE seeing_fwhm IS NULL")
