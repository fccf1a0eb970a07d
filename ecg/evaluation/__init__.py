"""The metric, thresholds, calibration and bootstrap intervals; numpy and scipy alone."""
