"""Helpers of several test modules: synthetic records, rows, audits and images, and running the command."""
