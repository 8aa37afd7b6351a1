"""The reference U-Net: architecture, training, calibration, evaluation, trained weights."""
