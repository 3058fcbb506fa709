"""The classifier alone, fitted to the features of frozen layers: as linear heads, or by gradient."""
