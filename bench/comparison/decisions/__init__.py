"""What commands ask of a table: compare two rows, recommend one under limits, the effect of a technique, more photos.

Each returns values; ``bench.leaderboard`` words them. Start with ``compare``.
"""
