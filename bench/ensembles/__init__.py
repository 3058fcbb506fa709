"""Ensembles of finished runs: weights from their predictions of val, and the tasks that combine their networks.

It trains nothing and reads no test labels. Start with ``planning.tasks_of``.
"""
