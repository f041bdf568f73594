"""What the tests of the gains share: scores of detectors that find a known share of the people."""

import numpy as np

from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth, match, score_subsets
from dcrl_jax.evaluation.rules import CONDITIONS, reasonable

SUBSETS = reasonable(10.0)


def detected(share, images=20):
    """Results of a detector that finds the first ``share`` of one person an image, with a false alarm in each image."""
    truths, found = [], {}
    for place in range(images):
        truths.append(
            ImageTruth(str(place), CONDITIONS[1 + place % 2], np.array([[0, 0, 10, 20]]), ["person"], [0], [False])
        )
        boxes, scores = [[50, 50, 10, 20]], [0.1]
        if place < share * images:
            boxes, scores = [[0, 0, 10, 20], *boxes], [0.9, *scores]
        found[str(place)] = ImageDetections(np.array(boxes, float), np.array(scores))
    scores = score_subsets(truths, found, SUBSETS)
    return {s.condition: (scores[s.name], match(truths, found, s)) for s in SUBSETS}
