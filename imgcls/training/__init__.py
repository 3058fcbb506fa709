"""The training loop, losses, schedules, checkpoints and events.

This package never reads a test split. Start with ``loop.train``, whose input is ``setup.TrainingSetup``.
"""
