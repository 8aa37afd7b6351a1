"""The way of one exposure: prepared, answered tile by tile, measured, scored."""
