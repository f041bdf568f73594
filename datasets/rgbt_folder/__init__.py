"""Anybody's folder of registered RGB-thermal pairs as a TFDS builder."""

from datasets.rgbt_folder.rgbt_folder import RgbtFolder, open_builder

__all__ = ["RgbtFolder", "open_builder"]
