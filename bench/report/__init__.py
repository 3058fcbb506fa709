"""The HTML page of a results folder, which is self-contained: it loads nothing from the network.

It shows values and documents, and computes none of them. Start with ``page``; ``template`` holds its scripts.
"""
