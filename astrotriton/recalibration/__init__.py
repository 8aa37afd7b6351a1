"""A confidence that is fitted anew to what people said of a version's detections."""
