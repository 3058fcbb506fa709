"""Where labelled files come from: folders of class folders, and named sets that are written as such once.

A source lists files and decodes none. Start with ``named.load_dataset``.
"""
