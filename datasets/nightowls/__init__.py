"""NightOwls: its TFDS builder."""

from datasets.nightowls.nightowls import Nightowls, open_builder

__all__ = ["Nightowls", "open_builder"]
