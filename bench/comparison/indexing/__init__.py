"""What is made of the tables of a results folder, kept in an index file, so that only tables that changed are made.

It must not change a result: an index that is missing, damaged, or of other files or code is ignored.
Start with ``reuse``, then ``inputs``.
"""
