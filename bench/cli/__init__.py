"""The command line: each command parses its flags, calls one function and prints.

Commands that only read records must not load torch. Start with ``main.COMMANDS``.
"""
