"""Heights and places of anchors, by hand."""

import numpy as np
import pytest

from dcrl_jax.errors import InputError
from dcrl_jax.ops import anchors


def test_heights_are_geometric_from_smallest_to_largest():
    np.testing.assert_allclose(anchors.anchor_heights_px(4, 30, 240), [30, 60, 120, 240], rtol=1e-6)
    nine = anchors.anchor_heights_px(9, 30, 500)
    assert nine.dtype == np.float32
    assert (nine[0], nine[-1]) == (30, 500)
    np.testing.assert_allclose(nine[1:] / nine[:-1], (500 / 30) ** (1 / 8), rtol=1e-5)


def test_a_single_height_is_the_smallest():
    assert anchors.anchor_heights_px(1, 40, 40).tolist() == [40]


@pytest.mark.parametrize("arguments", [(0, 30, 500), (9, 0, 500), (9, -1, 500), (9, 60, 50)])
def test_impossible_heights_are_an_error_naming_them(arguments):
    with pytest.raises(InputError, match="found {} heights from {} to {} px".format(*arguments)):
        anchors.anchor_heights_px(*arguments)


def test_cells_come_row_by_row_and_heights_within_a_cell():
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


def test_width_is_the_ratio_times_the_height_and_centres_are_the_cells():
    heights = anchors.anchor_heights_px(9, 30, 500)
    grid = anchors.grid_anchors(512, 640, 16, heights, aspect_ratio=0.41).reshape(32, 40, 9, 4)
    width, height = grid[..., 2] - grid[..., 0], grid[..., 3] - grid[..., 1]
    np.testing.assert_allclose(width, 0.41 * height, rtol=1e-4)
    np.testing.assert_allclose(height, np.broadcast_to(heights, height.shape), rtol=1e-4)
    np.testing.assert_allclose((grid[..., 0] + grid[..., 2])[5, 7] / 2, 7.5 * 16, rtol=1e-5)
    np.testing.assert_allclose((grid[..., 1] + grid[..., 3])[5, 7] / 2, 5.5 * 16, rtol=1e-5)


@pytest.mark.parametrize(
    ("height", "width", "text"),
    [
        (500, 640, "height of 500 px is not a positive multiple of the stride, 16 px. Set the height to 496 or 512"),
        (512, 647, "width of 647 px is not a positive multiple of the stride, 16 px. Set the width to 640 or 656"),
        (0, 640, "height of 0 px is not a positive multiple of the stride, 16 px. Set the height to 16 or 32"),
        (512, 9, "width of 9 px is not a positive multiple of the stride, 16 px. Set the width to 16 or 32"),
    ],
)
def test_size_that_the_stride_does_not_divide_is_an_error_with_sizes_that_work(height, width, text):
    with pytest.raises(InputError, match=text):
        anchors.grid_anchors(height, width, 16, np.float32([30]), 0.41)
