"""Estimates of what runs will cost, from a short training of each network on random images before any run starts.

It reads no image of the data set. Start with ``estimating.estimate``.
"""
