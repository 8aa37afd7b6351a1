"""``python -m astrotriton``: the command line, where its script is not installed."""

from astrotriton.cli import main

main(prog_name="python -m astrotriton")
