"""Architectures by name and their initial weights; building and saving of models; their numbers of parameters and MACs.

Nothing here trains or evaluates a model. Start with ``registry``: a new model is a line in ``MODELS``.
"""
