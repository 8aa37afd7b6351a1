"""The science: from the bytes of an exposure to scored detections.

Pure: numpy, astropy, scipy and sep, and no network, no framework and no clock. Training, export and
serving all call these functions, so that what a model was trained on is what it is served.

Pixel coordinates everywhere are 0-based floats, x along columns, and the centre of the first pixel
is (0, 0), as in numpy and SEP; ds9 and SExtractor count from 1. Sky coordinates are ICRS degrees.
"""
