"""How each server of the stack is run: one module a part, each with one function that says it."""
