"""One data set, one model: audit, split, fine-tune, evaluate, export, predict. Works without ``bench``.

Start with ``data.sources.named.load_dataset`` and ``training.loop.train``; ``inference.predict`` needs no torch.
"""
