"""Generated RGB scenes of a cheaper camera: their TFDS builder and config."""

from datasets.synthetic_visible.synthetic_visible import SyntheticVisible, SyntheticVisibleConfig, open_builder

__all__ = ["SyntheticVisible", "SyntheticVisibleConfig", "open_builder"]
