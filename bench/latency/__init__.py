"""Measurement of latency: protocol, rounds, their disturbances, and the rules for valid figures.

A measuring process loads nothing that it does not time. Start with ``protocol``, then ``measure.measure_all``.
"""
