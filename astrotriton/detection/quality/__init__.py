"""How good a version is, and whether it still is: golden tile, figures against truth, drift."""
