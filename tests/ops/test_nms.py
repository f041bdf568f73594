"""Greedy non-maximum suppression beside torchvision's and beside a plain loop."""

import functools
from pathlib import Path

import jax
import numpy as np
import pytest

from dcrl_jax.ops.nms import TILE, nms

FIXTURE = Path(__file__).parents[1] / "fixtures" / "ops" / "nms.npz"
# Cases are padded to one of these lengths, which are few for the compiler's sake and no multiples of the tile.
LENGTHS = (70, 1510)


def cases():
    with np.load(FIXTURE) as arrays:
        return [name for name in arrays if not name.endswith(("boxes", "scores"))]


@functools.cache
def compiled(threshold, max_kept):
    return jax.jit(functools.partial(nms, iou_threshold=threshold, max_kept=max_kept))


def padded_length(count):
    return next(length for length in LENGTHS if length >= count)


def run(boxes, scores, mask=None, threshold=0.5, max_kept=None, length=None):
    """The kept boxes' indices, after a check that empty places come last and hold 0."""
    boxes, scores = np.asarray(boxes, np.float32), np.asarray(scores, np.float32)
    mask = np.ones(len(boxes), bool) if mask is None else np.asarray(mask)
    missing = (length or padded_length(len(boxes))) - len(boxes)
    boxes = np.pad(boxes, ((0, missing), (0, 0)), constant_values=np.nan)
    scores = np.pad(scores, (0, missing), constant_values=np.nan)
    mask = np.pad(mask, (0, missing))
    index, kept = map(np.asarray, compiled(threshold, max_kept or len(boxes))(boxes, scores, mask))
    count = kept.sum()
    assert kept[:count].all()
    assert (index[count:] == 0).all()
    return index[:count].tolist()


def poisoned(boxes, scores, length, value=np.nan):
    """The boxes with padding between and after them, and their places."""
    places = np.sort(np.random.default_rng(1).choice(length, len(boxes), replace=False))
    padded_boxes, padded_scores = np.full((length, 4), value, np.float32), np.full(length, value, np.float32)
    padded_boxes[places], padded_scores[places] = boxes, scores
    return padded_boxes, padded_scores, np.isin(np.arange(length), places), places


def plain_loop(boxes, scores, mask, threshold):
    alive, kept = np.array(mask), []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for best in np.argsort(-scores, kind="stable"):
        if not alive[best]:
            continue
        kept.append(int(best))
        corners = np.maximum(boxes[best, :2], boxes[:, :2]), np.minimum(boxes[best, 2:], boxes[:, 2:])
        common = np.prod(np.maximum(corners[1] - corners[0], 0), axis=1)
        alive &= common / (area[best] + area - common) <= threshold
    return kept


@pytest.fixture(scope="module")
def theirs():
    return np.load(FIXTURE)


@pytest.mark.parametrize("case", cases())
def test_kept_boxes_and_their_order_are_torchvisions(theirs, case):
    name, threshold = case.split("/")
    boxes, scores = theirs[f"{name}/boxes"], theirs[f"{name}/scores"]
    *padded, places = poisoned(boxes, scores, padded_length(len(boxes)))
    assert run(*padded, threshold=float(threshold)) == places[theirs[case]].tolist()


def test_box_that_only_a_dropped_box_overlaps_too_much_is_kept():
    chain = [[0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10]]  # overlaps 8/12, 8/12 and 6/14
    assert run(chain, [0.9, 0.8, 0.7]) == [0, 2]
    assert run(chain, [0.8, 0.9, 0.7]) == [1]


def test_overlap_of_exactly_the_threshold_suppresses_nothing():
    assert run([[0, 0, 10, 10], [0, 0, 10, 5]], [0.9, 0.8]) == [0, 1]


def test_threshold_is_the_same_for_a_box_of_an_earlier_tile():
    far = [[100 + 20 * i, 0, 110 + 20 * i, 10] for i in range(TILE)]
    boxes = [[0, 0, 10, 10], *far, [0, 0, 10, 5], [0, 0, 10, 6]]
    assert run(boxes, np.linspace(1, 0, len(boxes))) == list(range(TILE + 2))


def test_first_box_is_not_kept_again_where_the_last_tile_is_not_full():
    # Without area it would not suppress its own copy.
    boxes = [[5, 5, 5, 5], *[[20 * i, 0, 20 * i + 10, 10] for i in range(TILE)]]
    assert run(boxes, np.linspace(1, 0, len(boxes))) == list(range(TILE + 1))


def test_of_equal_scores_the_lower_index_comes_first():
    boxes = [[20, 0, 30, 10], [0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10]]
    assert run(boxes, [0.5, 0.5, 0.5, 0.75]) == [3, 0, 1]


@pytest.mark.parametrize("count", [1, TILE, TILE + 1, 3 * TILE])
def test_any_number_of_boxes_gives_what_a_plain_loop_gives(count):
    rng = np.random.default_rng(count)
    corner, size = rng.uniform(0, 120, (count, 2)), rng.uniform(4, 30, (count, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    scores = rng.permutation(count).astype(np.float32)
    mask = rng.uniform(size=count) < 0.8 if count > 1 else np.array([True])
    expected = plain_loop(boxes, scores, mask, 0.4)
    assert run(boxes, scores, mask, threshold=0.4, length=count) == expected
    assert count == 1 or 1 < len(expected) < mask.sum()


@pytest.mark.parametrize("max_kept", [1, 100, 2000])
def test_result_is_cut_or_filled_up_to_max_kept(theirs, max_kept):
    boxes, scores = theirs["crowd_of_1500/boxes"], theirs["crowd_of_1500/scores"]
    index, kept = jax.eval_shape(compiled(0.7, max_kept), boxes, scores, np.ones(1500, bool))
    assert index.shape == kept.shape == (max_kept,)
    assert run(boxes, scores, threshold=0.7, max_kept=max_kept) == theirs["crowd_of_1500/0.7"][:max_kept].tolist()


def test_nothing_is_kept_of_nothing_but_padding():
    assert run(np.full((70, 4), np.nan), np.full(70, np.nan), np.zeros(70, bool)) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_padding_changes_nothing_whatever_it_holds(theirs, value):
    boxes, scores = theirs["negative_scores/boxes"], theirs["negative_scores/scores"]
    *padded, places = poisoned(boxes, scores, 70, value)
    assert run(*padded) == places[theirs["negative_scores/0.5"]].tolist()


def test_masked_box_suppresses_nothing():
    boxes, scores = [[0, 0, 10, 10], [1, 0, 11, 10], [2, 0, 12, 10]], [0.9, 0.8, 0.7]
    assert run(boxes, scores, [False, True, True]) == [1]
    assert run(boxes, scores, [True, False, True]) == [0]


def test_box_with_the_lowest_possible_score_is_still_no_padding():
    boxes = [[np.nan] * 4, [0, 0, 10, 10], [np.nan] * 4, [20, 0, 30, 10]]
    assert run(boxes, [0, -np.inf, 0, -np.inf], [False, True, False, True]) == [1, 3]


def test_images_of_a_batch_do_not_touch_each_other(theirs):
    names = ("one_score", "negative_scores", "identical_boxes")
    padded = [poisoned(theirs[f"{name}/boxes"], theirs[f"{name}/scores"], 70) for name in names]
    batch = [np.stack([image[part] for image in padded]) for part in range(3)]
    index, kept = jax.jit(jax.vmap(functools.partial(nms, iou_threshold=0.5, max_kept=70)))(*batch)
    for image, name in enumerate(names):
        places = padded[image][3]
        assert index[image][kept[image]].tolist() == places[theirs[f"{name}/0.5"]].tolist()


def test_no_gradient_flows_through_the_choice():
    boxes = np.float32([[0, 0, 10, 10], [20, 0, 30, 10]])

    def loss(scores):
        index, kept = nms(boxes, scores, np.ones(2, bool), 0.5, 2)
        return (scores[index] * kept * np.float32([3, 5])).sum()

    assert jax.grad(loss)(np.float32([0.1, 0.2])).tolist() == [5, 3]
