"""The reference U-Net: its architecture, training, calibration, evaluation, and the trained weights."""
