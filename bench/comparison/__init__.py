"""Tables and rows from records, and their comparison: ranks, paired tests, Pareto fronts, recommendations.

All results are computed once, as values; the words around them are written elsewhere. Start with ``tables``, then
``analysis`` and ``results``.
"""
