"""The classifier alone, fitted to the features of frozen layers. Start with ``linear.fit_head``."""
