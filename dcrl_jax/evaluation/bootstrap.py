"""Confidence intervals of differences in miss rate: a paired bootstrap over images and over pairs of runs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.miss_rate import REFERENCE_FPPI, SMALLEST_MISS, Matches, rank_detections


class Interval(NamedTuple):
    """A mean with its bootstrap percentile interval, as fractions (not percent)."""

    mean: float
    low: float
    high: float


def resampled_miss_rates(matches: Matches, counts: np.ndarray) -> np.ndarray:
    """Return the log-average miss rate of each resample of a subset's images.

    Args:
        matches: the matches of a detector on the subset.
        counts: int [K, I], how often each resample contains each of ``matches.image_ids``.

    Returns:
        float64 [K]; NaN where a resample contains no people. A resample that contains each image once has exactly the
        miss rate of ``miss_rate.score``.
    """
    is_true_positive, image = rank_detections(matches)
    rates = np.full(len(counts), np.nan)
    for row, count in enumerate(counts):
        people, images = int(count @ matches.people), int(count.sum())
        if not people:
            continue
        weight = count[image]
        fppi = np.cumsum(weight * ~is_true_positive) / images
        miss = np.concatenate([[1.0], 1.0 - np.cumsum(weight * is_true_positive) / people])
        at_reference = miss[np.searchsorted(fppi, REFERENCE_FPPI, side="right")]
        rates[row] = np.exp(np.mean(np.log(np.maximum(at_reference, SMALLEST_MISS))))
    return rates


def paired_difference(
    pairs: Sequence[tuple[Matches, Matches]], rng: np.random.Generator, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Return the mean difference in miss rate (first minus second run of each pair) with its interval.

    Each resample draws as many pairs as are given, with replacement. For each drawn pair it draws the images of the
    test split with replacement, the same images for both runs. With one pair the interval is over images only.

    Args:
        pairs: the matches of the two runs of each pair, on the same images.
        rng: the random generator.
        resamples: number of resamples.
        level: share of the resamples inside the interval.

    Raises:
        InputError: the two runs of a pair were scored on different images or people.
    """
    differences, resampled = [], []
    for first, second in pairs:
        if first.image_ids != second.image_ids or not np.array_equal(first.people, second.people):
            raise InputError("a paired bootstrap needs the results of both runs on the same images and people")
        images = len(first.image_ids)
        each_once = np.ones((1, images), int)
        differences.append((resampled_miss_rates(first, each_once) - resampled_miss_rates(second, each_once))[0])
        counts = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
        resampled.append(resampled_miss_rates(first, counts) - resampled_miss_rates(second, counts))
    drawn_pairs = rng.integers(len(pairs), size=(resamples, len(pairs)))
    # A pair that is drawn twice gets two independent image resamples.
    drawn_resamples = rng.integers(resamples, size=drawn_pairs.shape)
    means = np.mean(np.array(resampled)[drawn_pairs, drawn_resamples], axis=1)
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean(differences)), float(low), float(high))
