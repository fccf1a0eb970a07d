"""Classify ECG recordings of twelve or fewer leads (CinC Challenge 2021)."""

__version__ = "1.0.0"
