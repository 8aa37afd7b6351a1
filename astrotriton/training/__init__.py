"""The reference U-Net: a sky simulator with truth, its training, and the trained weights."""
