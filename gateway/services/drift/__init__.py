"""Drift: a bounded sample of what is scored, beside what the version was made for.

`sampler` describes exposures, `looks` compares them with the `baselines`, `reports` has Evidently
draw what was seen, by `report`, a process of its own, and `service` does it on request and on
schedule. Nothing is imported here, since that process would pay for it.
"""
