"""Which versions of a model answer, and what a challenger in the shadow made of the same runs."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Create the tables."""
    op.execute(
        """
        CREATE TABLE routes (
            model_name          text PRIMARY KEY CHECK (model_name <> ''),
            champion            integer NOT NULL CHECK (champion >= 1),
            challenger          integer CHECK (challenger >= 1 AND challenger <> champion),
            challenger_mode     text CHECK (challenger_mode IN ('shadow', 'canary')),
            challenger_fraction double precision
                CHECK (challenger_fraction > 0 AND challenger_fraction <= 1),
            previous_champion   integer CHECK (previous_champion >= 1),
            updated_at          timestamptz NOT NULL DEFAULT now(),
            CHECK ((challenger IS NULL) = (challenger_mode IS NULL)),
            CHECK ((challenger IS NULL) = (challenger_fraction IS NULL))
        )
        """
    )
    op.execute(
        """
        CREATE TABLE shadow_runs (
            run_id           uuid PRIMARY KEY REFERENCES runs,
            model_id         uuid NOT NULL REFERENCES models,
            real             integer NOT NULL CHECK (real >= 0),
            matched          integer NOT NULL CHECK (matched >= 0),
            only_champion    integer NOT NULL CHECK (only_champion >= 0),
            only_challenger  integer NOT NULL CHECK (only_challenger >= 0),
            verdicts_changed integer NOT NULL CHECK (verdicts_changed >= 0),
            mean_difference  double precision,
            largest_difference double precision,
            created_at       timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX shadow_runs_model_id ON shadow_runs (model_id)")
