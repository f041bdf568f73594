"""Average precision at an overlap of 0.5, beside the miss rate and from the same matches."""

from collections.abc import Mapping, Sequence

import numpy as np

from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth, match, rank_detections
from dcrl_jax.evaluation.rules import Subset


def average_precision(truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subset: Subset) -> float:
    """The area under the precision-recall curve, in 0..1.

    All-point interpolation (PASCAL VOC since 2010): at every recall, the highest precision of this or any greater
    recall. People, ignore regions and matches are those of the miss rate, so both judge the same detections.

    Returns:
        the average precision; 0 without detections, NaN where the subset has no people.

    Raises:
        InputError: as ``miss_rate.score``.
    """
    matches = match(truths, detections, subset)
    people = int(matches.people.sum())
    if not people:
        return float("nan")
    is_true_positive, _, _ = rank_detections(matches)
    precision = np.cumsum(is_true_positive) / np.arange(1, is_true_positive.size + 1)
    interpolated = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall grows by one person at each true positive and stands still at the others.
    return float(interpolated[is_true_positive].sum() / people)
