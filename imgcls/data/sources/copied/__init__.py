"""Data sets that are copied into the cache first: public ones, Hugging Face's, WebDataset shards, objects of a cloud.

From there on they are folders or tables, which the modules above read; nothing is decoded here.
Start in ``hugging_face.load``.
"""
