"""What the gateway speaks to beside PostgreSQL and NATS: Triton, stores, issuer, MLflow."""
