"""How fast exposures are scored, beside what the machine can do and what else could be used.

Everything is a ratio: contenders take turns round by round, each turn is a fixed number of
exposures that are waited for to the last, and what is told are medians over rounds.
"""
