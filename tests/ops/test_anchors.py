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
    # Centres of the cells, then half widths and half heights of the anchors.
    cells, halves = [(4, 4), (12, 4), (20, 4), (4, 12), (12, 12), (20, 12)], [(2.5, 5), (5, 10)]
    assert grid.tolist() == [[x - w, y - h, x + w, y + h] for x, y in cells for w, h in halves]


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
