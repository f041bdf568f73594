"""Greedy non-maximum suppression compared with torchvision's and by hand."""

from pathlib import Path

import jax
import numpy as np
import pytest

from dcrl_jax.ops.nms import TILE, nms

pytestmark = pytest.mark.usefixtures("quick_compile")

FIXTURE = Path(__file__).parents[1] / "fixtures" / "ops" / "nms.npz"
# Cases are padded to one of these lengths: few, because each is compiled, and no multiples of the tile.
SHORT, LONG = 70, 1510
NAN = np.nan


def run(boxes, scores, mask=None, threshold=0.5, max_kept=None, length=None):
    """The indices of the kept boxes, after a check that empty positions are last and hold 0."""
    length = length or (SHORT if len(boxes) <= SHORT else LONG)
    missing = length - len(boxes)
    mask = np.pad(np.ones(len(boxes), bool) if mask is None else np.array(mask, bool), (0, missing))
    boxes = np.pad(np.float32(boxes), ((0, missing), (0, 0)), constant_values=NAN)
    scores = np.pad(np.float32(scores), (0, missing), constant_values=NAN)
    index, kept = map(np.asarray, nms(boxes, scores, mask, threshold, max_kept or length))
    count = kept.sum()
    assert len(index) == len(kept) == (max_kept or length)
    assert kept[:count].all()
    assert (index[count:] == 0).all()
    return index[:count].tolist()


def poisoned(boxes, scores, length, value=NAN):
    """The boxes, scores and mask with padding between and after them, and the positions of the boxes."""
    positions = np.sort(np.random.default_rng(1).choice(length, len(boxes), replace=False))
    padded_boxes, padded_scores = np.full((length, 4), value, np.float32), np.full(length, value, np.float32)
    padded_boxes[positions], padded_scores[positions] = boxes, scores
    return padded_boxes, padded_scores, np.isin(np.arange(length), positions), positions


@pytest.fixture(scope="module")
def torchvision():
    return dict(np.load(FIXTURE))


def test_kept_boxes_and_their_order_equal_torchvision(torchvision):
    cases = [name for name in torchvision if not name.endswith(("boxes", "scores"))]
    assert len(cases) > 20
    for case in cases:
        name, threshold = case.split("/")
        boxes, scores = torchvision[f"{name}/boxes"], torchvision[f"{name}/scores"]
        *padded, positions = poisoned(boxes, scores, SHORT if len(boxes) <= SHORT else LONG)
        assert run(*padded, threshold=float(threshold)) == positions[torchvision[case]].tolist(), case


def row(*lefts):
    return [[left, 0, left + 10, 10] for left in lefts]


SEVERAL_TILES = [[5, 5, 5, 5], *row(*range(0, 20 * TILE, 20))]


@pytest.mark.parametrize(
    ("boxes", "scores", "mask", "kept"),
    [
        (row(0, 1, 2), [0.9, 0.8, 0.7], [0, 1, 1], [1]),
        (row(0, 1, 2), [0.9, 0.8, 0.7], [1, 0, 1], [0]),
        (row(0, 20), [-np.inf, -np.inf], [1, 1], [0, 1]),
        ([[NAN] * 4] * SHORT, [NAN] * SHORT, [0] * SHORT, []),
        # The last tile is not full. A box without area would not suppress a copy of itself.
        (SEVERAL_TILES, np.linspace(1, 0, TILE + 1), [1] * (TILE + 1), range(TILE + 1)),
    ],
    ids=["masked first", "masked second", "lowest scores", "only padding", "several tiles"],
)
def test_kept_boxes_by_hand(boxes, scores, mask, kept):
    assert run(boxes, scores, mask) == list(kept)


@pytest.mark.parametrize("count", [1, TILE, TILE + 1, 3 * TILE])
def test_any_number_of_best_boxes_gives_the_first_kept_of_all(torchvision, count):
    boxes, scores, kept = (torchvision[f"crowd_of_1500/{name}"] for name in ("boxes", "scores", "0.5"))
    best = np.argsort(-scores)[:count]
    # Worse boxes suppress no better ones.
    assert run(boxes[best], scores[best], length=count) == np.flatnonzero(np.isin(best, kept)).tolist()


@pytest.mark.parametrize("max_kept", [1, 100, 2000])
def test_result_is_cut_or_padded_to_max_kept(torchvision, max_kept):
    boxes, scores = torchvision["crowd_of_1500/boxes"], torchvision["crowd_of_1500/scores"]
    assert run(boxes, scores, threshold=0.7, max_kept=max_kept) == torchvision["crowd_of_1500/0.7"][:max_kept].tolist()


@pytest.mark.parametrize("value", [NAN, np.inf, -np.inf, 0.0])
def test_value_of_padding_changes_nothing(torchvision, value):
    boxes, scores = torchvision["negative_scores/boxes"], torchvision["negative_scores/scores"]
    *padded, positions = poisoned(boxes, scores, SHORT, value)
    assert run(*padded) == positions[torchvision["negative_scores/0.5"]].tolist()


def test_images_of_a_batch_are_independent(torchvision):
    names = ("one_score", "negative_scores", "identical_boxes")
    padded = [poisoned(torchvision[f"{name}/boxes"], torchvision[f"{name}/scores"], SHORT) for name in names]
    batch = [np.stack([image[part] for image in padded]) for part in range(3)]
    index, kept = map(np.asarray, jax.vmap(lambda *image: nms(*image, 0.5, SHORT))(*batch))
    for image, name in enumerate(names):
        positions = padded[image][3]
        assert index[image][kept[image]].tolist() == positions[torchvision[f"{name}/0.5"]].tolist()


def test_scores_have_no_gradient_through_the_choice():
    boxes = np.float32(row(0, 20))

    def loss(scores):
        index, kept = nms(boxes, scores, np.ones(2, bool), 0.5, 2)
        return (scores[index] * kept * np.float32([3, 5])).sum()

    assert jax.jit(jax.grad(loss))(np.float32([0.1, 0.2])).tolist() == [5, 3]
