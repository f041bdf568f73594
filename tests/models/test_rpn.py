"""The region proposal network, and the proposals from its outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_cases import apply, zero_params

from dcrl_jax.models.rpn import RegionProposalNetwork, propose
from dcrl_jax.ops.anchors import grid_anchors

pytestmark = pytest.mark.usefixtures("quick_compile")

RULES = {
    "image_size": (40, 60),
    "offset_std": (1.0, 1.0, 1.0, 1.0),
    "min_size_px": 4.0,
    "before_nms": 100,
    "kept": 3,
    "iou": 0.7,
}


def proposals_of(scores, anchors, offsets=None, **rules):
    """Proposals of the images of ``scores`` [B, N]; the background's logit is 5, so that only the difference counts."""
    scores = np.asarray(scores, np.float32)
    logits = np.stack([np.full_like(scores, 5), 5 + scores], axis=-1)
    offsets = np.zeros((*scores.shape, 4)) if offsets is None else offsets
    return jax.device_get(propose(logits, np.float32(offsets), np.float32(anchors), **(RULES | rules)))


def reference(scores, offsets, anchors, image_size, offset_std, min_size_px, before_nms, kept, iou):
    """The proposals of one image by plain loops, and how many boxes each rule dropped."""
    boxes = []
    for (x1, y1, x2, y2), (tx, ty, tw, th) in zip(anchors, offsets * np.asarray(offset_std), strict=True):
        width, height = x2 - x1, y2 - y1
        x, y = x1 + width / 2 + tx * width, y1 + height / 2 + ty * height
        width, height = width * np.exp(tw), height * np.exp(th)
        corners = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        boxes.append(np.clip(corners, 0, [image_size[1], image_size[0]] * 2))
    boxes = np.array(boxes)
    large = [i for i, b in enumerate(boxes) if min(b[2] - b[0], b[3] - b[1]) >= min_size_px]
    best = sorted(large, key=lambda i: -scores[i])[:before_nms]
    survivors = []
    for i in best:
        overlaps = []
        for j in survivors:
            size = np.minimum(boxes[i, 2:], boxes[j, 2:]) - np.maximum(boxes[i, :2], boxes[j, :2])
            inter = np.prod(np.maximum(size, 0))
            overlaps.append(
                inter / (np.prod(boxes[i, 2:] - boxes[i, :2]) + np.prod(boxes[j, 2:] - boxes[j, :2]) - inter)
            )
        if all(overlap <= iou for overlap in overlaps):
            survivors.append(i)
    dropped = (len(boxes) - len(large), len(large) - len(best), len(best) - len(survivors), len(survivors) - kept)
    return boxes[survivors[:kept]], scores[survivors[:kept]], dropped


def test_convolution_with_relu_then_two_heads_by_hand():
    features = np.float32([1, 2, 3]).reshape(1, 1, 3, 1)
    module = RegionProposalNetwork(channels=2, anchors_per_cell=1)
    params = zero_params(module, features)
    # Hidden channel 0 is the right neighbour plus one, zero beyond the border; channel 1 is negative everywhere.
    params["conv"]["kernel"][1, 2, 0, 0] = 1.0
    params["conv"]["bias"][:] = [1.0, -1.0]
    params["logits"]["kernel"][0, 0] = [[1.0, 10.0], [100.0, 100.0]]
    params["offsets"]["kernel"][0, 0, 0] = [1.0, 2.0, 3.0, 4.0]
    params["offsets"]["bias"][:] = [0.0, 0.0, 0.0, 0.5]
    logits, offsets = apply(module, params, features)
    np.testing.assert_allclose(logits, [[[3, 30], [4, 40], [1, 10]]])
    np.testing.assert_allclose(offsets, [[[3, 6, 9, 12.5], [4, 8, 12, 16.5], [1, 2, 3, 4.5]]])


def test_outputs_are_in_the_order_of_the_anchors():
    height, width, stride, heights_px = 16, 24, 8, np.float32([10, 20, 30])
    y, x = np.meshgrid([4.0, 12.0], [4.0, 12.0, 20.0], indexing="ij")
    features = np.stack([x, y], axis=-1)[None].astype(np.float32)
    module = RegionProposalNetwork(channels=2, anchors_per_cell=3)
    params = zero_params(module, features)
    params["conv"]["kernel"][1, 1] = np.eye(2)
    for anchor, anchor_height in enumerate(heights_px):
        params["logits"]["kernel"][0, 0, :, 2 * anchor : 2 * anchor + 2] = np.eye(2)
        params["offsets"]["kernel"][0, 0, :, 4 * anchor : 4 * anchor + 2] = np.eye(2)
        params["offsets"]["bias"][4 * anchor + 3] = anchor_height
    logits, offsets = apply(module, params, features)
    anchors = grid_anchors(height, width, stride, heights_px, 0.41)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    np.testing.assert_allclose(logits[0], centres, rtol=1e-5)
    np.testing.assert_allclose(offsets[0, :, :2], centres, rtol=1e-5)
    np.testing.assert_allclose(offsets[0, :, 3], anchors[:, 3] - anchors[:, 1], rtol=1e-5)


def test_proposals_equal_plain_loops_when_every_rule_drops_some():
    rng = np.random.default_rng(5)
    anchors = grid_anchors(40, 60, 4, np.float32([6, 14, 26]), 0.41)
    offsets = rng.normal(0, 2, (2, len(anchors), 4)).astype(np.float32)
    scores = rng.normal(0, 3, (2, len(anchors))).astype(np.float32)
    rules = RULES | {"offset_std": (0.1, 0.1, 0.2, 0.2), "before_nms": 90, "kept": 25, "iou": 0.5}
    found = proposals_of(scores, anchors, offsets, **rules)
    assert found.mask.all()
    for image in range(2):
        boxes, kept_scores, dropped = reference(
            scores[image].astype(np.float64), offsets[image].astype(np.float64), anchors.astype(np.float64), **rules
        )
        assert min(dropped) > 0
        np.testing.assert_allclose(found.boxes[image], boxes, atol=1e-4)
        np.testing.assert_allclose(found.scores[image], kept_scores, rtol=1e-5)


def row(*lefts):
    return [[left, 0, left + 10, 10] for left in lefts]


# Overlaps with the first: 1/2 and 7/13.
OVERLAPPING = [[0, 0, 10, 15], [0, 0, 10, 7.5], [3, 0, 13, 15]]


@pytest.mark.parametrize(
    ("scores", "anchors", "rules", "boxes"),
    [
        # What is left of the second is 3.5 px wide, of the third 2 px high.
        ([1, 2, 3], [[-20, -30, 10, 10], [56.5, 0, 90, 40], [30, 38, 40, 80]], {}, row(0)),
        ([1, 2], [[0, 0, 4, 20], [20, 0, 23.5, 20]], {}, [[0, 0, 4, 20]]),
        ([9, 8, 1, 3, 2], [[0, 0, 2, 2], [0, 20, 2, 22], *row(0, 20, 40)], {"before_nms": 2}, row(20, 40)),
        ([3, 2, 1], [*row(0), [0, 0, 10, 11], *row(20)], {"before_nms": 2}, row(0)),
        ([3, 2, 1], [*row(0), [0, 0, 10, 11], *row(20)], {"before_nms": 3}, row(0, 20)),
        ([3, 2, 1], OVERLAPPING, {"iou": 0.5}, OVERLAPPING[:2]),
        ([3, 2, 1], OVERLAPPING, {"iou": 0.6}, OVERLAPPING),
        ([1, 1, 1, 1], row(30, 0, 15, 45), {}, row(30, 0, 15)),
        ([1, -1, 3.5], row(0, 20, 40), {}, row(40, 0, 20)),
    ],
    ids=[
        "clipped before the size is judged",
        "side of exactly the smallest size",
        "small boxes do not count before NMS",
        "limit before NMS",
        "all before NMS",
        "overlap of exactly the threshold",
        "overlap below the threshold",
        "equal scores by index",
        "descending score",
    ],
)
def test_proposals_by_hand(scores, anchors, rules, boxes):
    found = proposals_of([scores], anchors, **rules)
    assert found.mask[0].tolist() == [True] * len(boxes) + [False] * (3 - len(boxes))
    np.testing.assert_allclose(found.boxes[0][: len(boxes)], boxes)
    assert set(found.scores[0][: len(boxes)].tolist()) <= set(scores)


def test_offsets_are_multiplied_by_their_std_before_decoding():
    found = proposals_of([[1.0]], [[10, 10, 20, 30]], [[[5, 5, 0, 5]]], offset_std=(0.1, 0.2, 1.0, np.log(1.2) / 5))
    # The centre (15, 20) moves by half a width and by a complete height; the height of 20 grows by a fifth.
    np.testing.assert_allclose(found.boxes[0, 0], [15, 28, 25, 40], rtol=1e-6)


def test_proposals_have_no_gradient():
    def total(logits, offsets):
        found = propose(logits, offsets, np.float32(row(0, 20)), **RULES)
        return jnp.sum(found.boxes) + jnp.sum(jnp.where(found.mask, found.scores, 0))

    gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(np.ones((1, 2, 2), np.float32), np.full((1, 2, 4), 0.1))
    assert not any(gradient.any() for gradient in gradients)
