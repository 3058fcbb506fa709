"""Worker processes and their callers. Start with ``starting``; a worker uses ``serving``.

``forking`` starts processes that need not load their libraries.
"""
