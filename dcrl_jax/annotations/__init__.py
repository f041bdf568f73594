"""Readers of the annotation formats. They need NumPy, msgspec and PyYAML at most: no JAX and no TFDS."""
