"""Labels of anchors and proposals by their overlap with annotations."""

import functools

import jax
import numpy as np
import pytest

from dcrl_jax.ops.boxes import ioa_matrix, iou_matrix
from dcrl_jax.ops.matching import NEGATIVE, NEITHER, POSITIVE, match

PERSON, IGNORE, PADDING = (True, False), (False, True), (False, False)
NAN = [np.nan] * 4
BOTH_RULES = pytest.mark.parametrize("match_best_anchor", [True, False])


@functools.cache
def compiled(match_best_anchor, negative_iou=0.3):
    rules = {"positive_iou": 0.5, "negative_iou": negative_iou, "ignore_ioa": 0.5}
    return jax.jit(functools.partial(match, match_best_anchor=match_best_anchor, **rules))


def run(anchors, annotations, match_best_anchor=False, mask=None, negative_iou=0.3):
    """Matches of anchors with annotations, which are (box, kind)."""
    boxes, kinds = zip(*annotations, strict=True)
    mask = np.ones(len(anchors), bool) if mask is None else np.array(mask)
    rule = compiled(match_best_anchor, negative_iou)
    return jax.device_get(rule(np.float32(anchors), np.float32(boxes), *np.array(kinds).T, mask=mask))


def part(height, left=0):
    """An anchor whose IoU with the box [left, 0, left + 10, 10] is a tenth of its height."""
    return [left, 0, left + 10, height]


PERSON_1, PERSON_2 = (part(10), PERSON), (part(10, left=100), PERSON)


def test_label_by_iou_with_a_person():
    heights = [10, 6, 5, 4, 3, 2, 0]
    matches = run([part(height) for height in heights], [PERSON_1])
    assert matches.label.tolist() == [POSITIVE, POSITIVE, NEITHER, NEITHER, NEITHER, NEGATIVE, NEGATIVE]
    np.testing.assert_allclose(matches.iou, np.array(heights) / 10, rtol=1e-6)
    # With one limit for both labels, only the limit itself is neither.
    labels = run([part(6), part(5), part(4)], [PERSON_1], negative_iou=0.5).label
    assert labels.tolist() == [POSITIVE, NEITHER, NEGATIVE]


def test_anchor_is_assigned_to_the_person_with_the_highest_iou():
    nearer_second, second = [4, 0, 14, 10], ([6, 0, 16, 10], PERSON)
    matches = run([nearer_second, part(10, 100), part(10)], [PERSON_1, second, PERSON_2])
    assert matches.box_index.tolist() == [1, 2, 0]
    np.testing.assert_allclose(matches.iou, [8 / 12, 1, 1], rtol=1e-6)
    # Also a person's best anchor: it overlaps the tall person by 10/40 and the small one completely.
    matches = run([part(10)], [([0, 0, 10, 40], PERSON), PERSON_1], True)
    assert (matches.label.tolist(), matches.box_index.tolist()) == ([POSITIVE], [1])


# Fractions of the anchor's area: 1 (though its IoU with the region is small), 10/16, exactly 1/2, 1/4, 0.
FRACTIONS = [[4, 4, 6, 6], part(16), part(20), part(40), part(10, 100)]


@pytest.mark.parametrize(
    ("anchors", "annotations", "labels"),
    [
        (FRACTIONS, [(part(10), IGNORE)], [NEITHER, NEITHER, NEGATIVE, NEGATIVE, NEGATIVE]),
        ([part(10)], [(part(10), IGNORE), PERSON_2], [NEITHER]),
        ([part(10)], [([0, 0, 4, 10], IGNORE), ([4, 0, 8, 10], IGNORE)], [NEGATIVE]),
        ([part(10)], [PERSON_1, ([-50, -50, 50, 50], IGNORE)], [POSITIVE]),
        ([part(10), part(2)], [(NAN, PADDING)], [NEGATIVE, NEGATIVE]),
    ],
    ids=["limit", "no overlap with a person", "two halves do not add up", "person inside a region", "only padding"],
)
def test_label_by_ignore_regions(anchors, annotations, labels):
    assert run(anchors, annotations, match_best_anchor=True).label.tolist() == labels


def test_best_anchors_of_a_person_are_all_positive():
    below = [0, 8, 10, 10]  # has the IoU of part(2)
    anchors = [part(2), below, part(1), part(9, 100)]
    assert run(anchors, [PERSON_1, PERSON_2], True).label.tolist() == [POSITIVE, POSITIVE, NEGATIVE, POSITIVE]
    assert run(anchors, [PERSON_1, PERSON_2], False).label.tolist() == [NEGATIVE, NEGATIVE, NEGATIVE, POSITIVE]
    # A person without any overlap has no best anchor.
    anchors = [part(10), part(0, 50), [300, 300, 310, 310]]
    assert run(anchors, [PERSON_1, PERSON_2], True).label.tolist() == [POSITIVE, NEGATIVE, NEGATIVE]


@BOTH_RULES
@pytest.mark.parametrize("padding", [NAN, part(10), [0, 0, 0, 0]])
def test_padded_boxes_change_nothing(padding, match_best_anchor):
    anchors = [part(10), part(4), part(2, 100), part(10, 200)]
    annotations = [PERSON_2, (part(9, 200), IGNORE)]
    usual = run(anchors, annotations, match_best_anchor)
    padded = run(anchors, [(padding, PADDING), *annotations, (padding, PADDING)], match_best_anchor)
    np.testing.assert_array_equal(padded.label, usual.label)
    np.testing.assert_array_equal(padded.iou, usual.iou)
    overlaps = usual.iou > 0
    np.testing.assert_array_equal(padded.box_index[overlaps], usual.box_index[overlaps] + 1)


@BOTH_RULES
def test_padded_proposals_are_neither_and_change_nothing(match_best_anchor):
    proposals, annotations = [part(4), part(1), part(10, 200)], [PERSON_1, (part(10, 200), IGNORE)]
    mask = [False, True, True, True, False]
    padded = run([part(10), *proposals, NAN], annotations, match_best_anchor, mask)
    best = POSITIVE if match_best_anchor else NEITHER
    assert padded.label.tolist() == [NEITHER, best, NEGATIVE, NEITHER, NEITHER]
    np.testing.assert_array_equal(padded.iou[1:-1], run(proposals, annotations, match_best_anchor).iou)


def test_labels_of_a_crowd_equal_numpy():
    rng = np.random.default_rng(2)

    def draw(count, smallest, largest):
        corner, size = rng.uniform(0, 100, (count, 2)), rng.uniform(smallest, largest, (count, 2))
        return np.concatenate([corner, corner + size], axis=1).astype(np.float32)

    anchors, persons, regions = draw(400, 5, 40), draw(6, 5, 40), draw(3, 20, 50)
    is_person = np.arange(9) < 6
    matches = compiled(True)(anchors, np.concatenate([persons, regions]), is_person, ~is_person)

    iou = np.asarray(jax.jit(iou_matrix)(anchors, persons))
    ignored = np.asarray(jax.jit(ioa_matrix)(anchors, regions)).max(axis=1) > 0.5
    expected = np.where((iou.max(axis=1) < 0.3) & ~ignored, NEGATIVE, NEITHER)
    expected[iou.max(axis=1) > 0.5] = POSITIVE
    expected[iou.argmax(axis=0)] = POSITIVE
    np.testing.assert_array_equal(matches.label, expected)
    assert all((expected == label).sum() > 5 for label in (POSITIVE, NEGATIVE, NEITHER))


def test_overlap_has_no_gradient():
    person = np.float32([part(10)]), np.array([True]), np.array([False])
    gradient = jax.jit(jax.grad(lambda anchors: match(anchors, *person, 0.5, 0.3, 0.5, True).iou.sum()))
    assert not gradient(np.float32([part(6)])).any()
