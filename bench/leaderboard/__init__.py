"""The results of tables as documents: the leaderboard, the comparison of two rows, and advice.

Nothing here computes a statistic, quotes a name or prints. Start with ``page``.
"""
