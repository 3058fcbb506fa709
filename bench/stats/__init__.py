"""Intervals, paired tests, ranks, power and bootstraps: pure functions of arrays.

Nothing here reads records or prints. Start with ``pairs``, which tests whether two models differ.
"""
