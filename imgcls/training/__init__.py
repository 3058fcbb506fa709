"""The training loop, its loss, schedules, checkpoints and events.

It never sees a test split. Start with ``loop.train``; what it is given is ``setup.TrainingSetup``.
"""
