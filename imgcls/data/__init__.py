"""Labelled images: where they come from, what is wrong with them, how they are divided, and how they become batches.

Nothing here knows of models. A bad image is listed and skipped in every split, never replaced. Start with ``audit``.
"""
