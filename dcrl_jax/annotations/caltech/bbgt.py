"""Caltech's new annotations (Zhang et al., CVPR 2016): a bbGt file per frame, as in KAIST.

Unlike in KAIST's files, the visible part of each person is annotated; it decides the level of occlusion.
"""

from collections.abc import Sequence

from dcrl_jax.annotations.caltech import occlusion
from dcrl_jax.annotations.kaist import bbgt
from dcrl_jax.annotations.types import HEAVY, NONE, Annotation


def parse(text: str) -> list[Annotation]:
    """Parse one file; boxes are as annotated, occlusion is computed from the visible share as in ``bbGt``.

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
    # Equal boxes: the annotator marked the person as occluded but drew no visible part. bbGt assumes that little is
    # visible.
    if tuple(visible) == annotation.box:
        return HEAVY
    return occlusion.level(annotation.box, visible)
