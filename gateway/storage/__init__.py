"""What the service keeps in PostgreSQL, by asyncpg: plain SQL in, plain types out."""
