"""Planning of runs, and their execution, each in a process of its own, on this machine or on a Ray cluster.

The record of a run is the only interface between processes. Start with ``plan.Task`` and ``execution.run_one``.
"""
