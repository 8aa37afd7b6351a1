"""What scoring tells of a canary that ends by itself, and how such a canary is written down.

`astrotriton.gateway.services.canaries` looks again and again and decides. All that a canary is lies
in PostgreSQL, and each step of it is one transaction with the route's change and the event, so that
any gateway goes on from where another was killed.
"""
