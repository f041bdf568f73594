"""Labels of anchors and proposals beside annotations."""

import functools

import jax
import numpy as np
import pytest

from dcrl_jax.ops.matching import NEGATIVE, NEITHER, POSITIVE, match

PERSON, IGNORE, PADDING = (True, False), (False, True), (False, False)
NAN = [np.nan] * 4


@functools.cache
def compiled(match_best_anchor, negative_iou=0.3):
    rule = functools.partial(
        match, positive_iou=0.5, negative_iou=negative_iou, ignore_ioa=0.5, match_best_anchor=match_best_anchor
    )
    return jax.jit(rule)


def run(anchors, annotations, match_best_anchor=False, mask=None):
    """Annotations are (box, kind)."""
    boxes, kinds = zip(*annotations, strict=True)
    is_person, is_ignore = np.array(kinds).T
    mask = None if mask is None else np.array(mask)
    return compiled(match_best_anchor)(np.float32(anchors), np.float32(boxes), is_person, is_ignore, mask=mask)


def part(height, left=0):
    """An anchor whose IoU with the box [left, 0, left + 10, 10] is a tenth of its height."""
    return [left, 0, left + 10, height]


PERSON_1, PERSON_2 = (part(10), PERSON), (part(10, left=100), PERSON)


@pytest.mark.parametrize(
    ("height", "label"),
    [(10, POSITIVE), (6, POSITIVE), (5, NEITHER), (4, NEITHER), (3, NEITHER), (2, NEGATIVE), (0, NEGATIVE)],
)
def test_label_by_overlap_with_a_person(height, label):
    matches = run([part(height)], [PERSON_1])
    assert matches.label.tolist() == [label]
    np.testing.assert_allclose(matches.iou, [height / 10], rtol=1e-6)


def test_anchor_stands_for_the_person_it_overlaps_most():
    nearer_second = [4, 0, 14, 10]
    second = ([6, 0, 16, 10], PERSON)
    matches = run([nearer_second, part(10, 100), part(10)], [PERSON_1, second, PERSON_2])
    assert matches.box_index.tolist() == [1, 2, 0]
    np.testing.assert_allclose(matches.iou, [8 / 12, 1, 1], rtol=1e-6)


def test_anchor_mostly_inside_an_ignore_region_is_in_neither():
    region = ([0, 0, 10, 10], IGNORE)
    # Shares of the own area: 1 (though its IoU with the region is small), 10/16, exactly one half, 1/4, 0.
    anchors = [[4, 4, 6, 6], part(16), part(20), part(40), part(10, 100)]
    assert run(anchors, [region]).label.tolist() == [NEITHER, NEITHER, NEGATIVE, NEGATIVE, NEGATIVE]


def test_overlap_with_an_ignore_region_is_no_overlap_with_a_person():
    matches = run([part(10)], [(part(10), IGNORE), PERSON_2])
    assert matches.label.tolist() == [NEITHER]
    assert matches.iou.tolist() == [0]


def test_halves_in_two_ignore_regions_do_not_add_up():
    regions = [([0, 0, 4, 10], IGNORE), ([4, 0, 8, 10], IGNORE)]
    assert run([part(10)], regions).label.tolist() == [NEGATIVE]


def test_anchor_on_a_person_inside_an_ignore_region_is_positive():
    assert run([part(10)], [PERSON_1, ([-50, -50, 50, 50], IGNORE)]).label.tolist() == [POSITIVE]


def test_best_anchors_of_a_person_are_positive_all_of_them():
    below = [0, 8, 10, 10]  # its IoU is that of part(2)
    anchors = [part(2), below, part(1), part(9, 100)]
    assert run(anchors, [PERSON_1, PERSON_2], True).label.tolist() == [POSITIVE, POSITIVE, NEGATIVE, POSITIVE]
    assert run(anchors, [PERSON_1, PERSON_2], False).label.tolist() == [NEGATIVE, NEGATIVE, NEGATIVE, POSITIVE]


def test_best_anchor_of_a_person_that_nothing_overlaps_is_none():
    matches = run([part(10), part(0, 50), [300, 300, 310, 310]], [PERSON_1, PERSON_2], True)
    assert matches.label.tolist() == [POSITIVE, NEGATIVE, NEGATIVE]


def test_best_anchor_still_stands_for_the_person_it_overlaps_most_itself():
    # The only anchor near both overlaps the tall person by 10/40 and the small one entirely.
    tall = ([0, 0, 10, 40], PERSON)
    matches = run([part(10)], [tall, PERSON_1], True)
    assert matches.label.tolist() == [POSITIVE]
    assert matches.box_index.tolist() == [1]


@pytest.mark.parametrize("match_best_anchor", [True, False])
@pytest.mark.parametrize("padding", [NAN, part(10), [0, 0, 0, 0]])
def test_padded_boxes_change_nothing_whatever_they_hold(padding, match_best_anchor):
    anchors = [part(10), part(4), part(2, 100), part(10, 200)]
    usual = run(anchors, [PERSON_2, (part(9, 200), IGNORE)], match_best_anchor)
    padded = run(anchors, [(padding, PADDING), PERSON_2, (part(9, 200), IGNORE), (padding, PADDING)], match_best_anchor)
    np.testing.assert_array_equal(padded.label, usual.label)
    np.testing.assert_array_equal(padded.iou, usual.iou)
    overlaps = usual.iou > 0
    np.testing.assert_array_equal(padded.box_index[overlaps], usual.box_index[overlaps] + 1)


@pytest.mark.parametrize("match_best_anchor", [True, False])
def test_padded_proposals_are_in_neither_and_change_nothing_whatever_they_hold(match_best_anchor):
    proposals = [part(4), part(1), part(10, 200)]
    usual = run(proposals, [PERSON_1, (part(10, 200), IGNORE)], match_best_anchor)
    padded = run(
        [part(10), *proposals, NAN],
        [PERSON_1, (part(10, 200), IGNORE)],
        match_best_anchor,
        mask=[False, True, True, True, False],
    )
    assert padded.label.tolist() == [NEITHER, *usual.label.tolist(), NEITHER]
    np.testing.assert_array_equal(padded.iou[1:-1], usual.iou)
    assert usual.label.tolist() == [POSITIVE if match_best_anchor else NEITHER, NEGATIVE, NEITHER]


def test_image_with_nothing_but_padding_has_only_negatives():
    assert run([part(10), part(2)], [(NAN, PADDING)], True).label.tolist() == [NEGATIVE, NEGATIVE]


def test_one_limit_for_both_leaves_only_the_limit_itself_in_neither():
    person = np.float32([part(10)])
    matches = compiled(False, negative_iou=0.5)(
        np.float32([part(6), part(5), part(4)]), person, *np.array([[1], [0]]) > 0
    )
    assert matches.label.tolist() == [POSITIVE, NEITHER, NEGATIVE]


def test_crowd_is_labelled_as_by_a_plain_loop():
    rng = np.random.default_rng(2)

    def some(count, smallest, largest):
        corner, size = rng.uniform(0, 100, (count, 2)), rng.uniform(smallest, largest, (count, 2))
        return np.concatenate([corner, corner + size], axis=1).astype(np.float32)

    anchors, persons, regions = some(400, 5, 40), some(6, 5, 40), some(3, 20, 50)
    boxes = np.concatenate([persons, regions])
    is_person = np.arange(9) < 6
    matches = compiled(True)(anchors, boxes, is_person, ~is_person)

    def common(a, b):
        return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))

    def size(a):
        return (a[2] - a[0]) * (a[3] - a[1])

    iou = np.array([[common(a, b) / (size(a) + size(b) - common(a, b)) for b in persons] for a in anchors])
    ignored = np.array([max(common(a, r) / size(a) for r in regions) > 0.5 for a in anchors])
    expected = np.where((iou.max(axis=1) < 0.3) & ~ignored, NEGATIVE, NEITHER)
    expected[iou.max(axis=1) > 0.5] = POSITIVE
    expected[iou.argmax(axis=0)] = POSITIVE
    np.testing.assert_array_equal(matches.label, expected)
    assert {(expected == label).sum() > 5 for label in (POSITIVE, NEGATIVE, NEITHER)} == {True}


def test_no_gradient_flows_through_the_overlap():
    def loss(anchors):
        return match(
            anchors, np.float32([part(10)]), np.array([True]), np.array([False]), 0.5, 0.3, 0.5, True
        ).iou.sum()

    np.testing.assert_array_equal(jax.grad(loss)(np.float32([part(6)])), np.zeros((1, 4)))
