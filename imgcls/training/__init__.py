"""The training loop, losses, schedules, checkpoints and events.

This package never reads a test split. Start with ``fitting.fit``, whose input is a ``plan.TrainingPlan``.
"""
