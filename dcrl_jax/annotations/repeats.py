"""Objects that an annotation file has more than once."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from dcrl_jax.annotations.types import REPEATED, Finding, box_text

Row = TypeVar("Row", bound=Hashable)


def drop_repeats(
    annotations: Iterable[Row], place: str, text_of: Callable[..., str] = box_text
) -> tuple[list[Row], list[Finding]]:
    """Return each annotation of one image once, and a finding on each that is there more than once.

    An annotation repeats another one if label, box, occlusion and ``ignore`` are all equal; each would count as a
    person of its own. Preparation and scoring use this one rule. The published truths have no repeats.

    Args:
        annotations: the annotations of one image, or of both images of a pair, row by row, as tuples.
        place: the image's name, for findings.
        text_of: the text of an annotation, for findings.

    Returns:
        The annotations in the order of their first appearance, and the findings.
    """
    counts = Counter(annotations)
    findings = [
        Finding(REPEATED, f"{place}: {text_of(annotation)}, {count} times")
        for annotation, count in counts.items()
        if count > 1
    ]
    return list(counts), findings
