"""Documents as data, and the renderers that turn them into Markdown, HTML, CSV, text for a terminal, and SVG.

Nothing here reads records or computes a figure: a document holds numbers, names and words, and only a renderer quotes a
name or escapes a character. Start with ``documents``.
"""
