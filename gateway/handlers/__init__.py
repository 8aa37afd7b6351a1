"""HTTP: each handler translates a request for a service, and its result for the caller."""
