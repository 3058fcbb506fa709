"""A race among many candidates, each a model at an image size: which of them to fine-tune, in a number of minutes.

Nothing here reads the test split before the finalists are fixed. Start with ``racing.run_race``.
"""
