"""What scores exposures: the limit, Triton alone, the gateway, and what else could be used."""
