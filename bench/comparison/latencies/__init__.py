"""Latency of the networks of a table: which figure is shown, how noisy it is, and which precisions are accepted.

A figure belongs to a network, not to a row; nothing here measures. Start with ``speeds``.
"""
