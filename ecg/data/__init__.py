"""Recordings, from WFDB files to batches; without Keras."""
