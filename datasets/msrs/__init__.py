"""MSRS road scenes: their TFDS builder."""

from datasets.msrs.msrs import Msrs, open_builder

__all__ = ["Msrs", "open_builder"]
