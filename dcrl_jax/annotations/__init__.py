"""Readers of the annotation formats. They need NumPy, SciPy and msgspec at most: no JAX and no TFDS."""
