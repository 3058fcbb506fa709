"""Optuna studies over ``fit``: space, storage, trials, and the record that a study leaves.

A trial never opens the test split. Start with ``space`` and ``search.work``.
"""
