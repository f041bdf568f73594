"""Geometry and coding of boxes, beside torchvision's and by hand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.ops import boxes as box_ops

FIXTURE = Path(__file__).parents[1] / "fixtures" / "ops" / "boxes.npz"
# What torchvision calls weights (10, 10, 5, 5).
STD = (0.1, 0.1, 0.2, 0.2)
NAN = np.float32(np.nan)


@pytest.fixture(scope="module")
def theirs():
    return np.load(FIXTURE)


def test_xywh_to_xyxy_and_back_by_hand():
    xywh = np.float32([[[3, 5, 10, 20]], [[-2, 0.5, 0, 1]]])
    xyxy = np.float32([[[3, 5, 13, 25]], [[-2, 0.5, -2, 1.5]]])
    np.testing.assert_array_equal(box_ops.xywh_to_xyxy(xywh), xyxy)
    np.testing.assert_array_equal(box_ops.xyxy_to_xywh(xyxy), xywh)


@pytest.mark.parametrize(
    "function", [box_ops.xywh_to_xyxy, box_ops.xyxy_to_xywh, box_ops.area, lambda x: box_ops.clip_to_image(x, 5, 6)]
)
def test_numpy_boxes_stay_numpy_and_jax_boxes_stay_jax(function):
    boxes = np.float32([[1, 2, 3, 4]])
    assert isinstance(function(boxes), np.ndarray)
    assert isinstance(function(jnp.asarray(boxes)), jax.Array)
    np.testing.assert_array_equal(function(boxes), function(jnp.asarray(boxes)))


def test_area_is_negative_where_one_pair_of_corners_is_swapped():
    boxes = np.float32([[1, 2, 4, 7], [4, 2, 1, 7], [3, 3, 3, 9]])
    assert box_ops.area(boxes).tolist() == [15, -15, 0]


def test_clip_to_image_bounds_x_by_the_width_and_y_by_the_height():
    boxes = np.float32([[-5, -6, 700, 800], [10, 20, 30, 40], [650, 520, 660, 530]])
    expected = [[0, 0, 640, 512], [10, 20, 30, 40], [640, 512, 640, 512]]
    assert box_ops.clip_to_image(boxes, 512, 640).tolist() == expected


def test_clip_to_image_is_torchvisions(theirs):
    np.testing.assert_array_equal(box_ops.clip_to_image(theirs["decoded"], 512, 640), theirs["clipped"])


def test_iou_is_torchvisions(theirs):
    ours = jax.jit(box_ops.iou_matrix)(theirs["boxes_a"], theirs["boxes_b"])
    np.testing.assert_allclose(ours, theirs["iou"], rtol=1e-5, atol=1e-7)


def test_iou_by_hand():
    boxes_a = np.float32([[0, 0, 4, 4], [10, 10, 12, 14]])
    boxes_b = np.float32([[2, 2, 6, 4], [4, 0, 8, 4], [10, 10, 12, 14]])
    # 2x2 in common of 16 + 8 - 4; only an edge in common; the same box.
    np.testing.assert_allclose(box_ops.iou_matrix(boxes_a, boxes_b), [[0.2, 0, 0], [0, 0, 1]], rtol=1e-6)


def test_overlap_of_boxes_without_area_is_zero_with_a_finite_gradient():
    point = jnp.float32([[3, 3, 3, 3]])
    for overlap in (box_ops.iou_matrix, box_ops.ioa_matrix):
        value, gradient = jax.value_and_grad(lambda x, overlap=overlap: overlap(x, point).sum())(point)
        assert value == 0
        assert np.isfinite(gradient).all()


def test_ioa_is_the_share_of_the_first_boxes_own_area():
    boxes = np.float32([[0, 0, 2, 10], [0, 0, 100, 100]])
    regions = np.float32([[0, 5, 50, 50], [1, 0, 50, 10], [60, 60, 70, 70]])
    np.testing.assert_allclose(box_ops.ioa_matrix(boxes, regions), [[0.5, 0.5, 0], [0.225, 0.049, 0.01]], rtol=1e-6)


def test_encoding_is_torchvisions(theirs):
    ours = jax.jit(lambda boxes, anchors: box_ops.encode_offsets(boxes, anchors, STD))(
        theirs["boxes"], theirs["anchors"]
    )
    np.testing.assert_allclose(ours, theirs["encoded"], rtol=1e-4, atol=1e-4)


def test_decoding_is_torchvisions_also_beyond_the_limit_of_the_scale(theirs):
    decode = jax.jit(lambda offsets, anchors: box_ops.decode_offsets(offsets, anchors, STD))
    ours = decode(theirs["offsets"], theirs["anchors"])
    np.testing.assert_allclose(ours, theirs["decoded"], rtol=1e-5, atol=1e-3)


def test_encoding_by_hand():
    anchor = np.float32([10, 20, 20, 40])
    box = np.float32([12, 15, 32, 55])
    # Centres (15, 30) and (22, 35), sizes (10, 20) and (20, 40).
    expected = np.array([7 / 10, 5 / 20, np.log(2), np.log(2)])
    np.testing.assert_allclose(box_ops.encode_offsets(box, anchor), expected, rtol=1e-6)
    np.testing.assert_allclose(box_ops.encode_offsets(box, anchor, STD), expected / STD, rtol=1e-6)


def test_decoding_undoes_encoding(theirs):
    offsets = box_ops.encode_offsets(theirs["boxes"], theirs["anchors"], STD)
    np.testing.assert_allclose(
        box_ops.decode_offsets(offsets, theirs["anchors"], STD), theirs["boxes"], rtol=1e-4, atol=1e-3
    )


def test_a_decoded_box_is_at_most_62_and_a_half_times_its_anchor():
    decoded = box_ops.decode_offsets(np.float32([0, 0, 1e9, 5]), np.float32([-1, -1, 1, 1]))
    np.testing.assert_allclose(decoded, [-62.5, -62.5, 62.5, 62.5], rtol=1e-5)


@pytest.mark.parametrize("padding", [[NAN] * 4, [0, 0, 0, 0], [5, 5, 5, 9], [9, 9, 5, 5]])
def test_encoding_of_padding_is_zero_on_either_side_and_leaves_the_others(padding):
    anchors = np.float32([[0, 0, 4, 8], [3, 4, 9, 9]])
    boxes = np.float32([[1, 1, 6, 9], [2, 2, 8, 12]])
    padded = np.float32(padding)[None]
    usual = box_ops.encode_offsets(boxes, anchors)
    for other in (np.float32([[1, 1, 6, 9]]), padded):
        for first, second in ((padded, other), (other, padded)):
            ours = box_ops.encode_offsets(np.concatenate([boxes, first]), np.concatenate([anchors, second]))
            np.testing.assert_array_equal(ours[:2], usual)
            assert ours[2].tolist() == [0, 0, 0, 0]


def test_nan_anchor_decodes_to_the_origin_and_poisons_no_gradient():
    offsets = jnp.float32([[0.5, 0.25, 0, 0], [1, 2, 3, 4]])
    anchors = np.float32([[0, 0, 10, 20], [NAN] * 4])

    def loss(scale):
        decoded = box_ops.decode_offsets(scale * offsets, anchors)
        return jnp.sum(jnp.where(jnp.array([[True], [False]]), decoded, 0)), decoded

    gradient, decoded = jax.grad(loss, has_aux=True)(jnp.float32(1))
    np.testing.assert_allclose(decoded, [[5, 5, 15, 25], [0, 0, 0, 0]])
    # x1 + x2 moves by 2 * 0.5 * 10, y1 + y2 by 2 * 0.25 * 20.
    np.testing.assert_allclose(gradient, 20)
