"""NightOwls: the builder of TFDS."""

from datasets.nightowls.nightowls import Nightowls, open_builder

__all__ = ["Nightowls", "open_builder"]
