"""Generated RGB scenes of another camera: the builder of TFDS."""

from datasets.synthetic_visible.synthetic_visible import SyntheticVisible, SyntheticVisibleConfig, open_builder

__all__ = ["SyntheticVisible", "SyntheticVisibleConfig", "open_builder"]
