"""Readers of the annotation formats. They need NumPy and SciPy at most: no JAX and no TFDS."""
