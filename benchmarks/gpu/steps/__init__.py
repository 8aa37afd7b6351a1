"""What is measured, one process each: a step prints a JSON line for each figure as it has it."""
