"""All of astrotriton on one machine: brought up, and shown once from end to end."""
