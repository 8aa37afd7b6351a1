"""Canaries that end by themselves.

`journal` is what scoring tells, `book` is how a canary begins, goes on and ends, and `service` looks
again and again and decides. All that a canary is lies in PostgreSQL, and each step of it is one
transaction with the route's change and the event, so that any gateway goes on from where another
was killed.
"""
