"""Many runs under one budget, measured by one protocol, kept as records, compared in a leaderboard and a report.

``docs/architecture.md`` says where things go; ``cli.main`` is where a command starts.
"""
