"""Caltech Pedestrians: the builder of TFDS and its config."""

from datasets.caltech_pedestrian.caltech_pedestrian import CaltechConfig, CaltechPedestrian, open_builder

__all__ = ["CaltechConfig", "CaltechPedestrian", "open_builder"]
