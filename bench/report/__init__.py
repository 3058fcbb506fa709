"""The HTML page of a results folder and the pages of studies: plots, galleries, provenance.

A page loads nothing from anywhere. Start with ``page``: a new plot is a function and a line in ``PLOTS``.
"""
