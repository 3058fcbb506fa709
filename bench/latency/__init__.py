"""Measurement of latency: protocol, rounds, their disturbances, and the rules for valid figures.

A measuring process imports only what it times. Start with ``protocol``, then ``measure.measure_all``.
"""
