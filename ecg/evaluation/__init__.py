"""The Challenge metric, thresholds and bootstrap intervals; numpy and scipy alone."""
