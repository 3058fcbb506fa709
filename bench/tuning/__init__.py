"""Hyperparameter search with Optuna: search space, storage, trials, and the records of studies.

A trial never reads the test split. Start with ``space`` and ``search.work``.
"""
