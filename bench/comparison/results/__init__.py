"""What a table shows, as plain values that can be written as JSON: rows, pairs, checkpoints, conditions, curves.

Documents are made from these values, which are computed once a table. Start with ``values``, then ``building``.
"""
