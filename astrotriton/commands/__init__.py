"""The commands of `astrotriton`, one module a room."""
