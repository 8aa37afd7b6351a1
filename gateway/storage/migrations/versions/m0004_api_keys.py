"""Who may use the service."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table."""
    op.execute(
        """
        CREATE TABLE api_keys (
            id              text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{12}$'),
            hash            bytea NOT NULL CHECK (octet_length(hash) = 32),
            name            text NOT NULL CHECK (name <> ''),
            scopes          text[] NOT NULL
                CHECK (scopes <@ ARRAY['infer', 'read', 'label', 'admin'] AND scopes <> '{}'),
            rate_per_minute integer CHECK (rate_per_minute >= 1),
            concurrency     integer CHECK (concurrency >= 1),
            created_at      timestamptz NOT NULL DEFAULT now(),
            expires_at      timestamptz,
            revoked_at      timestamptz
        )
        """
    )
