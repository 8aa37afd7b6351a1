"""The confidence: from probability and measurements to a calibrated one with its interval."""
