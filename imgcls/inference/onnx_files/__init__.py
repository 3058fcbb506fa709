"""ONNX files, which may come from a stranger: reading one, and what it must not contain, before a session opens it.

Nothing here runs or changes a model, or loads a runtime. Start with ``reading``.
"""
