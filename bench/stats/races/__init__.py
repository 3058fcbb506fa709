"""Statistics of a race of candidates on val: pure functions of arrays. Start with ``departures``."""
