"""The paired bootstrap: resamples worked by hand and by duplicated images, and the interval of a difference."""

import math

import numpy as np
import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.evaluation.bootstrap import paired_difference, resampled_miss_rates
from dcrl_jax.evaluation.miss_rate import ImageDetections, ImageTruth, match, score
from dcrl_jax.evaluation.rules import Subset

ANYONE = Subset("anyone")
PERSON = (0, 0, 10, 20)
ELSEWHERE = (200, 0, 10, 20)
# The smallest miss rate that is told apart.
NOBODY_MISSED = 1e-10


def truth(image_id, *boxes):
    count = len(boxes)
    return ImageTruth(
        image_id=image_id,
        condition="day",
        boxes=np.asarray(boxes, np.float64).reshape(-1, 4),
        labels=("person",) * count,
        occlusion=np.zeros(count, int),
        ignore=np.zeros(count, bool),
    )


def detected(*rows):
    """Pairs of a box and its score."""
    boxes = np.asarray([box for box, _ in rows], np.float64).reshape(-1, 4)
    return ImageDetections(boxes=boxes, scores=np.asarray([value for _, value in rows], np.float64))


def three_images():
    """Two people, one and nobody: by falling score a's true, c's false, b's false, b's true, a's false."""
    truths = [truth("a", PERSON, (50, 0, 10, 20)), truth("b", PERSON), truth("c")]
    detections = {
        "a": detected((PERSON, 0.9), (ELSEWHERE, 0.1)),
        "b": detected((PERSON, 0.5), (ELSEWHERE, 0.7)),
        "c": detected((ELSEWHERE, 0.8)),
    }
    return truths, detections


def duplicated(truths, detections, counts):
    """A data set in which each image really occurs as often as ``counts`` says, under another id each time."""
    more_truths, more_detections = [], {}
    for one, count in zip(truths, counts, strict=True):
        for copy in range(count):
            image_id = f"{one.image_id} {copy}"
            more_truths.append(one._replace(image_id=image_id))
            if one.image_id in detections:
                more_detections[image_id] = detections[one.image_id]
    return more_truths, more_detections


def random_images(rng, images=12):
    """People in a row on most images; of each detector's detections some find one, no two scores are equal."""
    places = [(30 * place, 0, 10, 20) for place in range(4)]
    truths = [truth(f"image {i}", *places[: rng.integers(0, 4)]) for i in range(images)]
    scores = iter(rng.permutation(images * 6) / 100)
    detections = {}
    for one in truths[1:]:  # nothing is found on the first
        boxes = [box for box in [*one.boxes, *places[3:], (0, 90, 10, 20), (30, 90, 10, 20)] if rng.random() < 0.6]
        detections[one.image_id] = detected(*((box, next(scores)) for box in boxes))
    return truths, detections


def found(*which):
    """Matches on images a, b, ... with a person each, who is found where ``which`` says so."""
    names = "abcdefghijkl"[: len(which)]
    truths = [truth(name, PERSON) for name in names]
    return match(truths, {n: detected((PERSON, 0.9)) for n, hit in zip(names, which, strict=True) if hit}, ANYONE)


def test_each_image_once_is_the_scorer_s_value_exactly():
    truths, detections = three_images()
    once = resampled_miss_rates(match(truths, detections, ANYONE), np.ones((1, 3), int))
    assert once.shape == (1,)
    assert once[0] == score(truths, detections, ANYONE).miss_rate
    for seed in range(5):
        truths, detections = random_images(np.random.default_rng(seed))
        rate = resampled_miss_rates(match(truths, detections, ANYONE), np.ones((1, 12), int))[0]
        assert rate == score(truths, detections, ANYONE).miss_rate
        assert 0 < rate < 1


def test_image_twice_and_another_not_at_all_by_hand():
    truths, detections = three_images()
    counts = np.array([[1, 2, 0]])
    # Four people on three images. By falling score: a's true (1/4 found, 0 fppi), b's false twice (2/3), b's true twice
    # (3/4 found), a's false (1). Of the reference points, the last alone is not below 2/3.
    expected = 0.75 ** (8 / 9) * 0.25 ** (1 / 9)
    rates = resampled_miss_rates(match(truths, detections, ANYONE), counts)
    np.testing.assert_allclose(rates, [expected], rtol=1e-12)
    again = score(*duplicated(truths, detections, counts[0]), ANYONE)
    assert (again.people, again.images) == (4, 3)
    np.testing.assert_allclose(again.miss_rate, expected, rtol=1e-12)


def test_image_without_people_counts_in_false_positives_per_image_as_often_as_it_is_drawn():
    truths, detections = three_images()
    # Two people on four images: a's true (1/2 found, 0 fppi), c's false three times (3/4), a's false (1).
    # One person on four images: c's false three times (3/4), b's false (1), b's true (all found).
    rates = resampled_miss_rates(match(truths, detections, ANYONE), np.array([[1, 0, 3], [0, 1, 3]]))
    np.testing.assert_allclose(rates, [0.5, NOBODY_MISSED ** (1 / 9)], rtol=1e-12)


def test_resamples_score_like_data_sets_in_which_the_images_are_duplicated():
    rng = np.random.default_rng(0)
    truths, detections = random_images(rng)
    counts = rng.multinomial(12, np.full(12, 1 / 12), size=20)
    rates = resampled_miss_rates(match(truths, detections, ANYONE), counts)
    expected = [score(*duplicated(truths, detections, row), ANYONE).miss_rate for row in counts]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    assert len(set(rates)) > 10


def test_resample_without_people_is_not_a_number():
    truths, detections = three_images()
    rates = resampled_miss_rates(match(truths, detections, ANYONE), np.array([[0, 0, 3], [1, 1, 1], [0, 0, 0]]))
    np.testing.assert_array_equal(np.isnan(rates), [True, False, True])


@pytest.mark.filterwarnings("error")
def test_resamples_without_people_are_left_out_of_the_interval():
    # The second image has nobody: a quarter of the resamples has no people, in all others the difference is the same.
    truths = [truth("a", PERSON), truth("b")]
    finds = match(truths, {"a": detected((PERSON, 0.9))}, ANYONE)
    misses = match(truths, {}, ANYONE)
    result = paired_difference([(finds, misses)], np.random.default_rng(0), resamples=200)
    assert result == (NOBODY_MISSED - 1, NOBODY_MISSED - 1, NOBODY_MISSED - 1)
    pairs = [(finds, misses), (finds, misses)]
    assert not any(map(math.isnan, paired_difference(pairs, np.random.default_rng(0), resamples=200)))


def test_identical_detectors_differ_by_exactly_nothing():
    matches = match(*random_images(np.random.default_rng(1)), ANYONE)
    pairs = [(matches, matches)]
    assert paired_difference(pairs, np.random.default_rng(0), resamples=200) == (0, 0, 0)
    assert paired_difference(pairs * 3, np.random.default_rng(0), resamples=200) == (0, 0, 0)


def test_mean_is_the_difference_of_the_scorer_s_values():
    rng = np.random.default_rng(2)
    truths, detections = random_images(rng)
    others = {name: one for name, one in detections.items() if rng.random() < 0.7}
    pair = match(truths, detections, ANYONE), match(truths, others, ANYONE)
    result = paired_difference([pair], rng, resamples=500)
    expected = score(truths, detections, ANYONE).miss_rate - score(truths, others, ANYONE).miss_rate
    assert result.mean == expected
    assert result.low < expected < result.high


def test_better_detector_lies_below_zero_and_the_worse_one_above():
    # On every image the first finds the person before its false positive, the second after it.
    truths = [truth(name, PERSON) for name in "abcdef"]
    scores = np.linspace(0.2, 0.8, 6)
    better, worse = (
        match(
            truths,
            {one.image_id: detected((PERSON, s + lead), (ELSEWHERE, s)) for one, s in zip(truths, scores, strict=True)},
            ANYONE,
        )
        for lead in (0.05, -0.05)
    )
    below = paired_difference([(better, worse)], np.random.default_rng(0), resamples=500)
    above = paired_difference([(worse, better)], np.random.default_rng(0), resamples=500)
    assert below.low <= below.mean <= below.high < 0
    assert 0 < above.low <= above.mean <= above.high
    np.testing.assert_allclose(above, [-below.mean, -below.high, -below.low], rtol=1e-12)


def test_interval_over_images_by_hand():
    # Of two people the first finds one, the second none. A resample holds the found one twice, once or not at all, with
    # chances of 1/4, 1/2 and 1/4: the difference is -1, -1/2 or 0.
    pair = found(True, False), found(False, False)
    result = paired_difference([pair], np.random.default_rng(0), resamples=2000)
    assert result == (-0.5, NOBODY_MISSED - 1, 0)
    inner = paired_difference([pair], np.random.default_rng(0), resamples=2000, level=0.4)
    assert inner == (-0.5, -0.5, -0.5)


def test_interval_over_two_very_different_pairs_is_wider_than_over_either():
    nothing, everything = found(False, False, False), found(True, True, True)
    alike, apart = (nothing, nothing), (everything, nothing)
    widths = []
    for pair, difference in ((alike, 0), (apart, NOBODY_MISSED - 1)):
        result = paired_difference([pair], np.random.default_rng(0), resamples=200)
        assert result == (difference,) * 3
        widths.append(result.high - result.low)
    result = paired_difference([alike, apart], np.random.default_rng(0), resamples=200)
    # Both pairs may be the first or the second.
    np.testing.assert_allclose(result, [-0.5, -1, 0], atol=1e-9)
    assert result.high - result.low > max(widths) + 0.9


def test_two_runs_of_one_pair_draw_their_images_apart():
    # Each pair alone has an interval of (-1, 0); the mean of two independent resamples is at an end in 1/16 of them
    # and not in 1/4. With 20 % outside the interval the ends are cut off.
    pair = found(True, False), found(False, False)
    alone = paired_difference([pair], np.random.default_rng(0), resamples=2000, level=0.8)
    both = paired_difference([pair, pair], np.random.default_rng(0), resamples=2000, level=0.8)
    np.testing.assert_allclose(alone, [-0.5, -1, 0], atol=1e-9)
    np.testing.assert_allclose(both, [-0.5, -0.75, -0.25], atol=1e-9)


def test_same_generator_gives_the_same_interval_and_another_one_another():
    truths, detections = random_images(np.random.default_rng(3))
    pair = match(truths, detections, ANYONE), match(truths, {}, ANYONE)
    first, again, other = (paired_difference([pair], np.random.default_rng(seed), resamples=100) for seed in (0, 0, 1))
    assert first == again
    assert first.mean == other.mean
    assert first[1:] != other[1:]


def test_different_images_are_refused():
    truths, detections = three_images()
    matches = match(truths, detections, ANYONE)
    fewer = match(truths[:2], {name: detections[name] for name in "ab"}, ANYONE)
    turned = match(truths[::-1], detections, ANYONE)
    for other in (fewer, turned):
        with pytest.raises(InputError, match="the same images and people"):
            paired_difference([(matches, matches), (matches, other)], np.random.default_rng(0), resamples=2)
