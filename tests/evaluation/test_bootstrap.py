"""The paired bootstrap: resamples worked by hand and by duplicated images, and the interval of a difference."""

import math

import numpy as np
import pytest
from scoring_cases import ANYONE, AWAY, BOX, make_detections, make_scene, make_truth

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.bootstrap import paired_difference, resampled_miss_rates
from dcrl_jax.evaluation.miss_rate import match, score

# The miss rate of a perfect detector.
NOBODY_MISSED = 1e-10


def difference(*pairs, seed=0, resamples=200, **options):
    return paired_difference(pairs, np.random.default_rng(seed), resamples=resamples, **options)


# Two people, one and nobody: by descending score a's true, c's false, b's false, b's true, a's false.
THREE_IMAGES = (
    [make_truth("a", BOX, (50, 0, 10, 20)), make_truth("b", BOX), make_truth("c")],
    {
        "a": make_detections([*BOX, 0.9], [*AWAY, 0.1]),
        "b": make_detections([*BOX, 0.5], [*AWAY, 0.7]),
        "c": make_detections([*AWAY, 0.8]),
    },
)


def random_images(images=12):
    """Return images with up to three people, found people and false alarms; no two scores are equal."""
    rng = np.random.default_rng(0)
    scenes = [make_scene(str(index), *rng.integers(0, 4, 3).tolist()) for index in range(images)]
    detections = {truth.image_id: found._replace(scores=rng.random(len(found.scores))) for truth, found in scenes}
    return [truth for truth, _ in scenes], detections


def found(*hits):
    """Return matches on images with one person each, who is found where ``hits`` is True."""
    truths = [make_truth(str(index), BOX) for index in range(len(hits))]
    return match(truths, {str(i): make_detections([*BOX, 0.9]) for i, hit in enumerate(hits) if hit}, ANYONE)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # Four people on three images. By descending score: a's true (1/4 found, 0 fppi), b's false twice (2/3), b's
        # true twice (3/4 found), a's false (1). Only the last reference point is not below 2/3.
        ((1, 2, 0), 0.75 ** (8 / 9) * 0.25 ** (1 / 9)),
        # Two people on four images: a's true (1/2 found, 0 fppi), c's false three times (3/4), a's false (1).
        ((1, 0, 3), 0.5),
        # One person on four images: c's false three times (3/4), b's false (1), b's true (all found).
        ((0, 1, 3), NOBODY_MISSED ** (1 / 9)),
        ((0, 0, 3), math.nan),
        ((0, 0, 0), math.nan),
    ],
)
def test_resamples_by_hand(counts, expected):
    rates = resampled_miss_rates(match(*THREE_IMAGES, ANYONE), np.array([counts]))
    np.testing.assert_allclose(rates, [expected], rtol=1e-12)


def test_resamples_score_like_data_sets_with_duplicated_images():
    truths, detections = random_images()
    counts = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), size=20)
    matches = match(truths, detections, ANYONE)
    rates = resampled_miss_rates(matches, counts)
    for row, rate in zip(counts, rates, strict=True):
        copies = [(truth, f"{truth.image_id} {i}") for truth, n in zip(truths, row, strict=True) for i in range(n)]
        copied = {name: detections[truth.image_id] for truth, name in copies}
        expected = score([truth._replace(image_id=name) for truth, name in copies], copied, ANYONE).miss_rate
        assert rate == pytest.approx(expected, rel=1e-12)
    assert len(set(rates)) > 10
    # A resample with each image once has exactly the miss rate.
    (rate,) = resampled_miss_rates(matches, np.ones((1, 12), int))
    assert rate == score(truths, detections, ANYONE).miss_rate


@pytest.mark.filterwarnings("error")
def test_interval_leaves_out_resamples_without_people():
    # The second image has nobody: a quarter of the resamples has no people, in all others the difference is the same.
    truths = [make_truth("a", BOX), make_truth("b")]
    pair = match(truths, {"a": make_detections([*BOX, 0.9])}, ANYONE), match(truths, {}, ANYONE)
    assert difference(pair) == (NOBODY_MISSED - 1,) * 3
    assert not any(map(math.isnan, difference(pair, pair)))


def test_mean_is_the_difference_of_miss_rates():
    truths, detections = random_images()
    others = {name: detections[name] for name in list(detections)[::2]}
    matches = match(truths, detections, ANYONE)
    pair = matches, match(truths, others, ANYONE)
    first, again, other = (difference(pair, seed=seed) for seed in (0, 0, 1))
    expected = score(truths, detections, ANYONE).miss_rate - score(truths, others, ANYONE).miss_rate
    assert first.mean == other.mean == expected
    assert first.low < expected < first.high
    # Only the generator decides the interval.
    assert first == again
    assert first[1:] != other[1:]
    assert difference((matches, matches), (matches, matches)) == (0, 0, 0)


SPLIT = (found(True, False), found(False, False))
ALIKE, APART = ((found(hit, hit, hit), found(False, False, False)) for hit in (False, True))


@pytest.mark.parametrize(
    ("pairs", "level", "expected"),
    [
        # Of two people the first detector finds one, the second none. A resample contains the found person twice, once
        # or not at all with probabilities 1/4, 1/2 and 1/4: the difference is -1, -1/2 or 0.
        ([SPLIT], 0.95, (-0.5, -1, 0)),
        ([SPLIT], 0.4, (-0.5, -0.5, -0.5)),
        # The mean of two independent resamples is at an end in 1/16 of the cases, which 20 % outside cut off.
        ([SPLIT], 0.8, (-0.5, -1, 0)),
        ([SPLIT, SPLIT], 0.8, (-0.5, -0.75, -0.25)),
        # Over two different pairs the interval is wider than over either: a resample may contain either pair twice.
        ([ALIKE], 0.95, (0, 0, 0)),
        ([APART], 0.95, (-1, -1, -1)),
        ([ALIKE, APART], 0.95, (-0.5, -1, 0)),
    ],
)
def test_interval_over_images_and_pairs_by_hand(pairs, level, expected):
    np.testing.assert_allclose(difference(*pairs, resamples=2000, level=level), expected, atol=1e-9)


def test_different_images_are_refused():
    truths, detections = THREE_IMAGES
    matches = match(truths, detections, ANYONE)
    fewer = match(truths[:2], {name: detections[name] for name in "ab"}, ANYONE)
    for other in (fewer, match(truths[::-1], detections, ANYONE)):
        with pytest.raises(InputError, match="the same images and people"):
            difference((matches, matches), (matches, other), resamples=2)
