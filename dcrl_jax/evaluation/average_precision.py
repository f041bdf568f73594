"""Average precision at an overlap of 0.5, computed from the matches of the miss rate."""

from collections.abc import Mapping, Sequence

import numpy as np

from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth, match, rank_detections
from dcrl_jax.evaluation.rules import Subset


def average_precision(truths: Sequence[ImageTruth], detections: Mapping[str, ImageDetections], subset: Subset) -> float:
    """Return the area under the precision-recall curve, in 0..1.

    All-point interpolation (PASCAL VOC since 2010): at each recall, take the highest precision at this or a higher
    recall. People, ignore regions and matches are those of the miss rate.

    Returns:
        The average precision; 0 without detections, NaN if the subset has no people.

    Raises:
        InputError: as ``miss_rate.score``.
    """
    matches = match(truths, detections, subset)
    people = int(matches.people.sum())
    if not people:
        return float("nan")
    is_true_positive, _ = rank_detections(matches)
    precision = np.cumsum(is_true_positive) / np.arange(1, is_true_positive.size + 1)
    interpolated = np.maximum.accumulate(precision[::-1])[::-1]
    # Each true positive raises recall by one person; other detections leave it unchanged.
    return float(interpolated[is_true_positive].sum() / people)
