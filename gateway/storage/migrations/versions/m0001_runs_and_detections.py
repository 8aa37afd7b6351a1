"""Models, runs, their detections, and the outbox of events."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create them."""
    op.execute(
        """
        CREATE TABLE models (
            id          uuid PRIMARY KEY,
            name        text NOT NULL CHECK (name <> ''),
            version     integer NOT NULL CHECK (version >= 1),
            digest      text NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'),
            card_digest text NOT NULL CHECK (card_digest ~ '^[0-9a-f]{64}$'),
            card        jsonb NOT NULL,
            created_at  timestamptz NOT NULL DEFAULT now(),
            UNIQUE (name, version, card_digest)
        )
        """
    )
    op.execute(
        """
        CREATE TABLE runs (
            id                  uuid PRIMARY KEY,
            model_id            uuid NOT NULL REFERENCES models,
            exposure_name       text,
            exposure_hdu        text NOT NULL,
            exposure_digest     text NOT NULL CHECK (exposure_digest ~ '^[0-9a-f]{64}$'),
            height              integer NOT NULL CHECK (height >= 1),
            width               integer NOT NULL CHECK (width >= 1),
            background          double precision NOT NULL,
            background_gradient double precision NOT NULL,
            noise               double precision NOT NULL,
            seeing_fwhm         double precision,
            masked_fraction     double precision NOT NULL CHECK (masked_fraction BETWEEN 0 AND 1),
            tiles               integer NOT NULL CHECK (tiles >= 1),
            threshold           double precision NOT NULL CHECK (threshold BETWEEN 0 AND 1),
            extracted           boolean NOT NULL,
            flags               text[] NOT NULL,
            detections          integer NOT NULL CHECK (detections >= 0),
            created_at          timestamptz NOT NULL
        )
        """
    )
    op.execute("CREATE INDEX runs_model_id ON runs (model_id)")
    op.execute(
        """
        CREATE TABLE detections (
            id               uuid PRIMARY KEY,
            run_id           uuid NOT NULL REFERENCES runs,
            rank             integer NOT NULL CHECK (rank >= 1),
            candidate_id     text,
            x                double precision NOT NULL,
            y                double precision NOT NULL,
            ra               double precision CHECK (ra BETWEEN 0 AND 360),
            dec              double precision CHECK (dec BETWEEN -90 AND 90),
            probability      double precision CHECK (probability BETWEEN 0 AND 1),
            probability_mean double precision CHECK (probability_mean BETWEEN 0 AND 1),
            confidence       double precision CHECK (confidence BETWEEN 0 AND 1),
            is_real          boolean NOT NULL,
            snr              double precision,
            flux             double precision,
            flux_err         double precision,
            fwhm             double precision,
            elongation       double precision,
            negative_ratio   double precision,
            polarity         smallint NOT NULL CHECK (polarity IN (1, -1)),
            outcome          text NOT NULL CHECK (outcome IN ('kept', 'merged', 'unscored')),
            merged_into      uuid REFERENCES detections,
            flags            text[] NOT NULL,
            UNIQUE (run_id, rank),
            UNIQUE (run_id, candidate_id),
            CHECK ((ra IS NULL) = (dec IS NULL)),
            CHECK ((outcome = 'kept') = (confidence IS NOT NULL)),
            CHECK ((outcome = 'merged') = (merged_into IS NOT NULL)),
            CHECK (merged_into <> id),
            CHECK (NOT is_real OR confidence IS NOT NULL)
        )
        """
    )
    op.execute(
        "CREATE INDEX detections_merged_into ON detections (merged_into) "
        "WHERE merged_into IS NOT NULL"
    )
    op.execute(
        """
        CREATE TABLE outbox (
            id           uuid PRIMARY KEY,
            subject      text NOT NULL CHECK (subject <> ''),
            event        jsonb NOT NULL CHECK (event ->> 'id' = id::text),
            created_at   timestamptz NOT NULL DEFAULT now(),
            published_at timestamptz
        )
        """
    )
    op.execute("CREATE INDEX outbox_waiting ON outbox (id) WHERE published_at IS NULL")
