"""MSRS road scenes: ``Msrs(config="fusion" | "visible" | "infrared", file_format="array_record")``."""

from datasets.msrs.msrs import Msrs

__all__ = ["Msrs"]
