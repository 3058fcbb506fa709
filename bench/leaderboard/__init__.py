"""Render a comparison: Markdown, CSV and the terminal.

Nothing here computes a statistic or prints. Start with ``page``.
"""
