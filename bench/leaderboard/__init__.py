"""Render a comparison: Markdown, CSV and the terminal.

Statistics are computed by ``comparison`` and ``stats``; nothing here prints. Start with ``page``.
"""
