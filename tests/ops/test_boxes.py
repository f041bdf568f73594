"""Geometry and coding of boxes, compared with torchvision's and computed by hand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.ops import boxes as box_ops

pytestmark = pytest.mark.usefixtures("quick_compile")

FIXTURE = Path(__file__).parents[1] / "fixtures" / "ops" / "boxes.npz"
# What torchvision calls weights (10, 10, 5, 5).
STD = (0.1, 0.1, 0.2, 0.2)
NAN = np.float32(np.nan)

encode = jax.jit(box_ops.encode_offsets, static_argnums=2)
decode = jax.jit(box_ops.decode_offsets, static_argnums=2)


def clip(boxes):
    return box_ops.clip_to_image(boxes, 512, 640)


@pytest.mark.parametrize(
    ("function", "boxes", "expected"),
    [
        (box_ops.xywh_to_xyxy, [[[3, 5, 10, 20]], [[-2, 0.5, 0, 1]]], [[[3, 5, 13, 25]], [[-2, 0.5, -2, 1.5]]]),
        (box_ops.xyxy_to_xywh, [[[3, 5, 13, 25]], [[-2, 0.5, -2, 1.5]]], [[[3, 5, 10, 20]], [[-2, 0.5, 0, 1]]]),
        # Negative where one pair of corners is swapped.
        (box_ops.area, [[1, 2, 4, 7], [4, 2, 1, 7], [3, 3, 3, 9]], [15, -15, 0]),
        (
            clip,
            [[-5, -6, 700, 800], [1, 2, 3, 4], [650, 520, 660, 530]],
            [[0, 0, 640, 512], [1, 2, 3, 4], [640, 512] * 2],
        ),
    ],
    ids=["to corners", "to sizes", "area", "clip"],
)
def test_functions_of_one_set_of_boxes_in_numpy_and_jax(function, boxes, expected):
    boxes = np.float32(boxes)
    for array, kind in ((boxes, np.ndarray), (jnp.asarray(boxes), jax.Array)):
        found = function(array)
        assert isinstance(found, kind)
        np.testing.assert_array_equal(found, expected)


def test_coding_clipping_and_iou_equal_torchvision():
    torchvision = np.load(FIXTURE)
    boxes, anchors, decoded = (torchvision[name] for name in ("boxes", "anchors", "decoded"))
    encoded = encode(boxes, anchors, STD)
    np.testing.assert_allclose(encoded, torchvision["encoded"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(decode(encoded, anchors, STD), boxes, rtol=1e-4, atol=1e-3)
    # Some of these offsets are beyond the limit of the scale.
    np.testing.assert_allclose(decode(torchvision["offsets"], anchors, STD), decoded, rtol=1e-5, atol=1e-3)
    np.testing.assert_array_equal(clip(decoded), torchvision["clipped"])
    iou = jax.jit(box_ops.iou_matrix)(torchvision["boxes_a"], torchvision["boxes_b"])
    np.testing.assert_allclose(iou, torchvision["iou"], rtol=1e-5, atol=1e-7)


def test_ioa_is_the_fraction_of_the_first_boxes_area():
    boxes, regions = [[0, 0, 2, 10], [0, 0, 100, 100]], [[0, 5, 50, 50], [1, 0, 50, 10], [60, 60, 70, 70]]
    ioa = jax.jit(box_ops.ioa_matrix)(np.float32(boxes), np.float32(regions))
    np.testing.assert_allclose(ioa, [[0.5, 0.5, 0], [0.225, 0.049, 0.01]], rtol=1e-6)


@pytest.mark.parametrize("overlap", [box_ops.iou_matrix, box_ops.ioa_matrix])
def test_overlap_of_boxes_without_area_is_zero_with_a_finite_gradient(overlap):
    point = np.float32([[3, 3, 3, 3]])
    value, gradient = jax.jit(jax.value_and_grad(lambda x: overlap(x, point).sum()))(point)
    assert value == 0
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("padding", [[NAN] * 4, [0, 0, 0, 0], [5, 5, 5, 9], [9, 9, 5, 5]])
def test_encoding_of_padding_is_zero_and_leaves_the_other_boxes(padding):
    anchors, boxes = np.float32([[0, 0, 4, 8], [3, 4, 9, 9]]), np.float32([[1, 1, 6, 9], [2, 2, 8, 12]])
    usual, padding = encode(boxes, anchors), np.float32([padding])
    for other in (boxes[:1], padding):
        for box, anchor in ((padding, other), (other, padding)):
            found = encode(np.concatenate([boxes, box]), np.concatenate([anchors, anchor]))
            np.testing.assert_array_equal(found, [*usual, np.zeros(4)])


def test_nan_anchor_decodes_to_the_origin_and_poisons_no_gradient():
    offsets, anchors = np.float32([[0.5, 0.25, 0, 0], [1, 2, 3, 4]]), np.float32([[0, 0, 10, 20], [NAN] * 4])

    def loss(scale):
        decoded = box_ops.decode_offsets(scale * offsets, anchors)
        return jnp.sum(jnp.where(np.array([[True], [False]]), decoded, 0)), decoded

    gradient, decoded = jax.jit(jax.grad(loss, has_aux=True))(1.0)
    np.testing.assert_allclose(decoded, [[5, 5, 15, 25], [0, 0, 0, 0]])
    # x1 + x2 moves by 2 * 0.5 * 10, y1 + y2 by 2 * 0.25 * 20.
    np.testing.assert_allclose(gradient, 20)
