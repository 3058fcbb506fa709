"""Where the pixels of a batch come from: one file of resized pixels, or the user's own files, decoded when needed.

Both return the same pixels to the bit, so that the choice is part of no id. Start with ``choice.py``.
"""
