"""Records of runs: the schema and its history, ids, reading and writing, paths, environment and locks.

Nothing here loads torch or a runtime. Start with ``schema.RunRecord``.
"""
