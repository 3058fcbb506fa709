"""Where the pixels of a batch come from: one file of resized pixels, the user's own files, or smaller JPEGs of them.

The first two return the same pixels to the bit, so that the choice is part of no id; JPEGs lose a little, train only,
and are part of the setting. Start with ``choice.py``.
"""
