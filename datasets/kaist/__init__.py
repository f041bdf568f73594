"""KAIST: its TFDS builder and config."""

from datasets.kaist.kaist import Kaist, KaistConfig, open_builder

__all__ = ["Kaist", "KaistConfig", "open_builder"]
