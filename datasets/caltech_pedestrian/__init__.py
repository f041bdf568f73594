"""Caltech Pedestrians: its TFDS builder and config."""

from datasets.caltech_pedestrian.caltech_pedestrian import CaltechConfig, CaltechPedestrian, open_builder

__all__ = ["CaltechConfig", "CaltechPedestrian", "open_builder"]
