"""Many runs under one budget, measured by one protocol, kept as records, read as a leaderboard."""
