"""Caltech's new annotations (Zhang and others, 2016): a bbGt file for each frame, as KAIST's.

What they add to KAIST's is the visible part of a person, which says how much of it is hidden.
"""

from dcrl_jax.annotations.caltech import occlusion
from dcrl_jax.annotations.kaist import bbgt
from dcrl_jax.annotations.types import Annotation


def parse(text: str) -> list[Annotation]:
    """Parses one file; boxes as annotated, occlusion by the visible share as the toolbox's ``bbGt`` reads it.

    Raises:
        InputError: another version, or a malformed line; names its number, counted from 1.
    """
    rows = [line.split() for line in text.split("\n") if line.strip() and not line.startswith("%")]
    return [
        annotation._replace(occlusion=_level(annotation, [float(value) for value in row[6:10]]))
        for annotation, row in zip(bbgt.parse(text), rows, strict=True)
    ]


def _level(annotation, visible):
    if not annotation.occlusion:
        return occlusion.NONE
    # An occluded person whose visible part was never drawn: bbGt takes it for hardly visible.
    if tuple(visible) == annotation.box:
        return occlusion.HEAVY
    return occlusion.level(annotation.box, visible)
