"""What joins the rooms on one machine: `astrotriton up`, `demo` and `verify`.

`stack` starts servers and knows no model. This brings the stack up with the reference network
exported and served, and shows the main job once from end to end.
"""
