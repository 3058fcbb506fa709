"""Trained models in any runtime: sessions, export, parity, quantisation and prediction.

Importing ``runtimes`` loads no runtime; each is loaded when a session is opened. Start with ``runtimes``.
"""
