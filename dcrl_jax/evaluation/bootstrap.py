"""How sure a difference of miss rates is: paired bootstrap over images, and over pairs of runs."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.miss_rate import REFERENCE_FPPI, SMALLEST_MISS, Matches, rank_detections


class Interval(NamedTuple):
    """A mean with its bootstrap percentile interval; fractions, not percent."""

    mean: float
    low: float
    high: float


def resampled_miss_rates(matches: Matches, counts: np.ndarray) -> np.ndarray:
    """The log-average miss rate of each resample of a subset's images.

    Args:
        matches: of a detector on the subset.
        counts: int [K, I], how often each resample holds each of ``matches.image_ids``.

    Returns:
        float64 [K]; NaN where a resample holds no people. A resample that takes every image once gives
        ``miss_rate.score``'s value.
    """
    is_true_positive, _, image = rank_detections(matches)
    rates = np.full(len(counts), np.nan)
    for row, count in enumerate(counts):
        people, images = int(count @ matches.people), int(count.sum())
        if not people:
            continue
        taken = count[image]
        fppi = np.cumsum(taken * ~is_true_positive) / images
        miss = np.concatenate([[1.0], 1.0 - np.cumsum(taken * is_true_positive) / people])
        at_reference = miss[np.searchsorted(fppi, REFERENCE_FPPI, side="right")]
        rates[row] = np.exp(np.mean(np.log(np.maximum(at_reference, SMALLEST_MISS))))
    return rates


def paired_difference(
    pairs: Sequence[tuple[Matches, Matches]], rng: np.random.Generator, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """The mean over pairs of runs of the first one's miss rate less the second's, with its interval.

    Each resample draws as many pairs as there are, with replacement, and for each the images of its test split, with
    replacement and for both runs the same. With one pair the interval is over images alone.

    Args:
        pairs: matches of the two detectors of each pair on the same images.
        rng: the only source of chance.
        resamples: how many.
        level: share of the resamples inside the interval.

    Raises:
        InputError: the two runs of a pair were scored on different images.
    """
    exact, spread = [], []
    for first, second in pairs:
        if first.image_ids != second.image_ids or not np.array_equal(first.people, second.people):
            raise InputError("a paired bootstrap needs both detectors' results on the same images and people")
        images = len(first.image_ids)
        once = np.ones((1, images), int)
        exact.append((resampled_miss_rates(first, once) - resampled_miss_rates(second, once))[0])
        counts = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
        spread.append(resampled_miss_rates(first, counts) - resampled_miss_rates(second, counts))
    chosen = rng.integers(len(pairs), size=(resamples, len(pairs)))
    # Another image resample for each drawn pair, so that a pair drawn twice does not count as one.
    places = rng.integers(resamples, size=chosen.shape)
    means = np.mean(np.array(spread)[chosen, places], axis=1)
    low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(np.mean(exact)), float(low), float(high))
