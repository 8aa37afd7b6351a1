"""Cut-outs are kept as pixels, and drawn as PNG when somebody looks."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column; earlier cut-outs stay what they are."""
    op.execute("ALTER TABLE cutouts ADD pixels bytea CHECK (octet_length(pixels) <= 65536)")
    # Noise doesn't compress: it is not tried.
    op.execute("ALTER TABLE cutouts ALTER pixels SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE cutouts ALTER png DROP NOT NULL")
    op.execute(
        "ALTER TABLE cutouts ADD CONSTRAINT cutouts_one_of_them "
        "CHECK ((png IS NULL) <> (pixels IS NULL))"
    )
