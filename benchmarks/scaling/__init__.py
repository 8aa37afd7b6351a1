"""How many servers a survey takes: measured costs, and a simulation that is checked here."""
