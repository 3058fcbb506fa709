"""Sources of labelled images, their audit, splits, the pixel cache, augmentation and batches.

Nothing in this package depends on models. An unusable image is reported and skipped in every split, never replaced.
Start with ``audit``.
"""
