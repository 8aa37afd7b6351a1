"""Services of other designs, which run in processes and environments of their own."""
