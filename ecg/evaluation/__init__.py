"""The metric, thresholds, calibration and intervals; numpy and scipy alone."""
