"""Faults that an operating system, a user or another process causes, injected into real commands."""
