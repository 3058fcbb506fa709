"""Latency of untrained networks, before a race: export, measurement, limit. Start with ``screening.screen``."""
