"""Architectures by name, their first weights, and how they are built, saved and counted.

Nothing here trains or scores. Start with ``registry``: a new model is a line in ``MODELS``.
"""
