"""Heights and positions of anchors, by hand."""

import numpy as np
import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.ops import anchors


@pytest.mark.parametrize(
    ("arguments", "heights"), [((4, 30, 240), [30, 60, 120, 240]), ((1, 40, 40), [40]), ((2, 30, 500), [30, 500])]
)
def test_heights_are_geometric_from_smallest_to_largest(arguments, heights):
    found = anchors.anchor_heights_px(*arguments)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, heights, rtol=1e-6)


@pytest.mark.parametrize("arguments", [(0, 30, 500), (9, 0, 500), (9, -1, 500), (9, 60, 50)])
def test_invalid_heights_are_refused(arguments):
    with pytest.raises(InputError, match="found {} heights from {} to {} px".format(*arguments)):
        anchors.anchor_heights_px(*arguments)


def test_cells_are_in_row_order_and_heights_within_a_cell():
    grid = anchors.grid_anchors(16, 24, 8, np.float32([10, 20]), aspect_ratio=0.5)
    assert grid.dtype == np.float32
    assert grid.tolist() == [
        [1.5, -1, 6.5, 9],
        [-1, -6, 9, 14],
        [9.5, -1, 14.5, 9],
        [7, -6, 17, 14],
        [17.5, -1, 22.5, 9],
        [15, -6, 25, 14],
        [1.5, 7, 6.5, 17],
        [-1, 2, 9, 22],
        [9.5, 7, 14.5, 17],
        [7, 2, 17, 22],
        [17.5, 7, 22.5, 17],
        [15, 2, 25, 22],
    ]


def test_width_is_the_ratio_times_the_height_around_the_cells_centre():
    heights = anchors.anchor_heights_px(9, 30, 500)
    grid = anchors.grid_anchors(512, 640, 16, heights, aspect_ratio=0.41).reshape(32, 40, 9, 4)
    size, centre = grid[..., 2:] - grid[..., :2], (grid[..., :2] + grid[..., 2:])[5, 7] / 2
    np.testing.assert_allclose(size, np.broadcast_to(heights[:, None] * [0.41, 1], size.shape), rtol=1e-4)
    np.testing.assert_allclose(centre, [[7.5 * 16, 5.5 * 16]] * 9, rtol=1e-5)


@pytest.mark.parametrize(
    ("height", "width", "message"),
    [
        (500, 640, "height of 500 px is not a positive multiple of the stride, 16 px. Set the height to 496 or 512"),
        (512, 647, "width of 647 px is not a positive multiple of the stride, 16 px. Set the width to 640 or 656"),
        (0, 640, "height of 0 px is not a positive multiple of the stride, 16 px. Set the height to 16 or 32"),
        (512, 9, "width of 9 px is not a positive multiple of the stride, 16 px. Set the width to 16 or 32"),
    ],
)
def test_size_that_the_stride_does_not_divide_is_refused(height, width, message):
    with pytest.raises(InputError, match=message):
        anchors.grid_anchors(height, width, 16, np.float32([30]), 0.41)
