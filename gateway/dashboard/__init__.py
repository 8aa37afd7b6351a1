"""The pages that people look at: what they show, as HTML and SVG that need no script."""
