"""Trainings on a Ray cluster: what is sent to it, and what it sends back. Start with ``ray_runs``."""
