"""Augmentations on batches of images, per-sample parameters, generator passed in."""
