"""The HTML page of a results folder, and the Markdown pages of studies.

The HTML page is self-contained: it loads nothing from the network. Start with ``page``; a new plot is a function and a
line in ``PLOTS``.
"""
