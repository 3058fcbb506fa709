"""Intervals, paired tests, ranks, power and bootstraps: pure functions of arrays.

Nothing here knows of records or prints. Start with ``pairs``: it decides which of two models is better.
"""
