"""The simulated sky: difference exposures whose truth is known."""
