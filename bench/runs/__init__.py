"""Plan runs and carry them out: one process a run, here or on a Ray cluster.

A run's record is the only interface between processes. Start with ``plan.Task`` and ``execution.run_one``.
"""
