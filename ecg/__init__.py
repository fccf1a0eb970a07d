"""Twelve-lead ECG classification by the method of Cai et al. 2021 (USST_Med, CinC Challenge 2021)."""

__version__ = "1.0.0"
