"""The commands that search: hyperparameters of a model, or models among many. Start with ``sweep`` and ``select``."""
