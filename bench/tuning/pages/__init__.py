"""The pages of finished studies: a document with tables, and Optuna's plots.

Written from the record of a study alone, as its storage may be gone. Start with ``document``.
"""
