"""Predictions of a split, and what is computed from them: metrics and calibration.

Only ``forward`` loads torch. Start with ``metrics``: a new metric is a function and a line in ``METRICS``.
"""
