"""Sources of labelled image files: class folders, and named data sets, which are written as class folders once.

A source lists files without decoding them, as ``photos`` does without labels. Start with ``named.load_dataset``.
"""
