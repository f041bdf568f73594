"""The region proposal network, the proposals from its outputs, and the region head."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from module_cases import apply, zero_params

from dcrl_jax.models.roi_head import RoiHead
from dcrl_jax.models.rpn import RegionProposalNetwork, propose
from dcrl_jax.ops.anchors import grid_anchors

pytestmark = pytest.mark.usefixtures("quick_compile")

ONES = (1.0, 1.0, 1.0, 1.0)
RULES = {"image_size": (40, 60), "offset_std": ONES, "min_size_px": 4.0, "before_nms": 100, "kept": 3, "iou": 0.7}


def proposals_of(scores, anchors, offsets=None, **rules):
    """Proposals of the images of ``scores`` [B, N]; the background's logit is 5, so that only the difference counts."""
    scores = np.asarray(scores, np.float32)
    logits = np.stack([np.full_like(scores, 5), 5 + scores], axis=-1)
    offsets = np.zeros((*scores.shape, 4)) if offsets is None else offsets
    return jax.device_get(propose(logits, np.float32(offsets), np.float32(anchors), **(RULES | rules)))


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
    anchors = grid_anchors(16, 24, 8, np.float32([10, 20, 30]), 0.41)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    features = centres[::3].reshape(1, 2, 3, 2)
    module = RegionProposalNetwork(channels=2, anchors_per_cell=3)
    params = zero_params(module, features)
    params["conv"]["kernel"][1, 1] = np.eye(2)
    for anchor, anchor_height in enumerate([10, 20, 30]):
        params["logits"]["kernel"][0, 0, :, 2 * anchor : 2 * anchor + 2] = np.eye(2)
        params["offsets"]["kernel"][0, 0, :, 4 * anchor : 4 * anchor + 2] = np.eye(2)
        params["offsets"]["bias"][4 * anchor + 3] = anchor_height
    logits, offsets = apply(module, params, features)
    np.testing.assert_allclose(logits[0], centres, rtol=1e-5)
    np.testing.assert_allclose(offsets[0, :, :2], centres, rtol=1e-5)
    np.testing.assert_allclose(offsets[0, :, 3], anchors[:, 3] - anchors[:, 1], rtol=1e-5)


def row(*lefts):
    return [[left, 0, left + 10, 10] for left in lefts]


# Overlaps with the first: 1/2 and 7/13.
OVERLAPPING = [[0, 0, 10, 15], [0, 0, 10, 7.5], [3, 0, 13, 15]]
SMALL = [[0, 0, 2, 2], [0, 20, 2, 22]]
# The first and the second overlap by 10/11.
SIMILAR = [*row(0), [0, 0, 10, 11], *row(20)]


@pytest.mark.parametrize(
    ("scores", "anchors", "rules", "boxes"),
    [
        # Clipped before the size is judged: the second is then 3.5 px wide, the third 2 px high.
        ([1, 2, 3], [[-20, -30, 10, 10], [56.5, 0, 90, 40], [30, 38, 40, 80]], {}, row(0)),
        ([1, 2], [[0, 0, 4, 20], [20, 0, 23.5, 20]], {}, [[0, 0, 4, 20]]),
        # Small boxes do not count before NMS, those that NMS drops do.
        ([9, 8, 1, 3, 2], [*SMALL, *row(0, 20, 40)], {"before_nms": 2}, row(20, 40)),
        ([3, 2, 1], SIMILAR, {"before_nms": 2}, row(0)),
        ([3, 2, 1], SIMILAR, {"before_nms": 3}, row(0, 20)),
        # An overlap of exactly the threshold is allowed.
        ([3, 2, 1], OVERLAPPING, {"iou": 0.5}, OVERLAPPING[:2]),
        ([3, 2, 1], OVERLAPPING, {"iou": 0.6}, OVERLAPPING),
        # By falling score, equal scores by index, and at most ``kept``.
        ([1, 1, 1, 1], row(30, 0, 15, 45), {}, row(30, 0, 15)),
        ([1, -1, 3.5], row(0, 20, 40), {}, row(40, 0, 20)),
    ],
)
def test_proposals_by_hand(scores, anchors, rules, boxes):
    found = proposals_of([scores], anchors, **rules)
    assert found.mask[0].tolist() == [True] * len(boxes) + [False] * (3 - len(boxes))
    np.testing.assert_allclose(found.boxes[0][: len(boxes)], boxes)
    assert set(found.scores[0][: len(boxes)].tolist()) <= set(scores)


def test_offsets_are_multiplied_by_their_std_in_each_image():
    # The centre (15, 20) moves by half a width and by a complete height; the height of 20 grows by a fifth.
    offsets, std = [[[5, 5, 0, 5]], [[0, 0, 0, 0]]], (0.1, 0.2, 1.0, np.log(1.2) / 5)
    found = proposals_of([[1.0], [2.0]], [[10, 10, 20, 30]], offsets, offset_std=std)
    np.testing.assert_allclose(found.boxes[:, 0], [[15, 28, 25, 40], [10, 10, 20, 30]], rtol=1e-6)
    np.testing.assert_allclose(found.scores[:, 0], [1, 2], rtol=1e-6)


def test_proposals_have_no_gradient():
    def total(logits, offsets):
        found = propose(logits, offsets, np.float32(row(0, 20)), **RULES)
        return jnp.sum(found.boxes) + jnp.sum(jnp.where(found.mask, found.scores, 0))

    gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(np.ones((1, 2, 2), np.float32), np.full((1, 2, 4), 0.1))
    assert not any(gradient.any() for gradient in gradients)


def test_region_head_by_hand_through_both_layers_and_their_relus():
    features = np.zeros((1, 3, 2, 2, 3), np.float32)
    features[0, 1, 1, 0, 2], features[0, 2, 0, 0, 0] = 2, 5
    module = RoiHead(hidden=2)
    params = zero_params(module, features)
    # Bins are in row order, with their channels: channel 2 of bin (1, 0) is input 8.
    params["fc6"]["kernel"][8] = [3.0, -3.0]
    params["fc6"]["kernel"][0] = [0.0, 1.0]
    params["fc6"]["bias"][:] = [1.0, 0.0]
    params["fc7"]["kernel"][:] = [[1.0, -1.0], [10.0, 1.0]]
    params["logits"]["kernel"][:] = [[0.5, 1.0], [0.0, 2.0]]
    params["logits"]["bias"][:] = [0.0, -1.0]
    params["offsets"]["kernel"][0] = [1.0, 2.0, 3.0, 4.0]
    logits, offsets = apply(module, params, features)
    # fc6 gives (1, 0), (1 + 6, 0) and (1, 5), fc7 (1, 0), (7, 0) and (1 + 50, 5 - 1).
    np.testing.assert_allclose(logits, [[[0.5, 0.0], [3.5, 6.0], [25.5, 58.0]]])
    np.testing.assert_allclose(offsets, [[[1, 2, 3, 4], [7, 14, 21, 28], [51, 102, 153, 204]]])
