"""Sources of labelled image files: class folders and tables, and other data sets, which are copied as such once.

A source lists files without decoding them, as ``photos`` does without labels. Start with ``registry.load_dataset``.
"""
