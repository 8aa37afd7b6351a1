"""The public face of astrotriton."""

__version__ = "0.1.0"
