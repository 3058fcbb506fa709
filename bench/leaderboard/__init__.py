"""Render a comparison: Markdown, CSV and the terminal.

Nothing here computes a statistic or reads a record. Start with ``page``.
"""
