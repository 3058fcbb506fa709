"""The command line: each command parses, calls one function and prints.

Commands that only read leave torch unloaded. Start with ``main.COMMANDS``.
"""
