"""Evaluation of trained networks: scores, calibration, confusion matrices, and effects of changes."""
