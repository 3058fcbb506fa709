"""Records to tables and rows, and what their test images can show: ranks, pairs, Pareto fronts, recommendations.

Everything is worked out once, as values; nothing here writes text for people. Start with ``tables``, then ``analysis``.
"""
