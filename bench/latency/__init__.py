"""How latency is measured: protocol, rounds, what disturbs them, and whether a figure is valid.

A measuring process loads nothing that it does not time. Start with ``protocol``, then ``measure.measure_all``.
"""
