"""MSRS road scenes: the builder of TFDS."""

from datasets.msrs.msrs import Msrs, open_builder

__all__ = ["Msrs", "open_builder"]
