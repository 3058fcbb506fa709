"""Where labelled images come from, what is wrong with them, and how they reach a model."""
