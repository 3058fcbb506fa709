"""A trained model in any runtime: sessions, export, parity, quantisation, prediction.

Importing a module here loads no runtime; a runtime loads when a session opens. Start with ``runtimes``.
"""
