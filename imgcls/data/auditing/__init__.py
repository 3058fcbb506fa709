"""The parts of an audit: what is seen in each file, which images look alike, and the table of usable images.

They work on arrays with one entry per file, so that a million files are no million objects. Start with ``images.py``.
"""
