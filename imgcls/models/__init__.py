"""Architectures by name, their initial weights, building, saving and counting of models.

Nothing here trains or evaluates a model. Start with ``registry``: a new model is a line in ``MODELS``.
"""
