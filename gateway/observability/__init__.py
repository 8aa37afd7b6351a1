"""What the gateway tells operators: logs, metrics and traces."""
