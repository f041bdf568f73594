"""Caltech's new annotations (Zhang et al., CVPR 2016): a bbGt file per frame, as in KAIST.

Unlike KAIST's files they give the visible part of a person, and so the degree of occlusion.
"""

from collections.abc import Sequence

from dcrl_jax.annotations.caltech import occlusion
from dcrl_jax.annotations.kaist import bbgt
from dcrl_jax.annotations.types import HEAVY, NONE, Annotation


def parse(text: str) -> list[Annotation]:
    """Parse one file; boxes as annotated, occlusion by the visible share as the toolbox's ``bbGt`` reads it.

    Raises:
        InputError: another version, or a malformed line; names its number, counted from 1.
    """
    rows = [line.split() for line in text.split("\n") if line.strip() and not line.startswith("%")]
    return [
        annotation._replace(occlusion=_level(annotation, [float(value) for value in row[6:10]]))
        for annotation, row in zip(bbgt.parse(text), rows, strict=True)
    ]


def _level(annotation: Annotation, visible: Sequence[float]) -> int:
    if not annotation.occlusion:
        return NONE
    # The annotator marked the person as occluded and drew no visible part: bbGt assumes that little is visible.
    if tuple(visible) == annotation.box:
        return HEAVY
    return occlusion.level(annotation.box, visible)
