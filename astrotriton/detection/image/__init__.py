"""The exposure: read, masked, its background fitted, normalised, and cut into tiles."""
