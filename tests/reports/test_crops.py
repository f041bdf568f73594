"""Crops: their window and their boxes."""

import numpy as np
import pytest

from dcrl_jax.reports.crops import GAP_PX, PERSON_COLOR, SIDE_PX, SUBJECT_COLOR, crop_window, draw_crop


@pytest.mark.parametrize(
    ("box", "window"),
    [
        ((300, 200, 40, 100), (210, 140, 430, 360)),  # 2.2 times the height, around the centre
        ((10, 10, 40, 100), (0, 0, 220, 220)),  # shifted from the corner into the image
        ((600, 400, 40, 100), (436, 292, 656, 512)),
        ((300, 200, 4, 10), (251, 154, 353, 256)),  # a fifth of the image's height at least
        ((300, 0, 200, 500), (144, 0, 656, 512)),  # no larger than the image
        ((-20, 100, 40, 100), (0, 40, 220, 260)),  # beyond the edge
    ],
)
def test_window_is_a_square_around_the_box_inside_the_image(box, window):
    assert crop_window(np.array(box, float), 512, 656) == window


def find(image, color):
    """Return the first and last column and row with a colour."""
    rows, columns = np.nonzero((image == color).all(axis=2))
    return columns.min(), columns.max(), rows.min(), rows.max()


def test_boxes_are_drawn_in_every_image():
    visible = np.full((100, 100, 3), (10, 20, 30), np.uint8)
    lwir = np.full((100, 100, 1), 77, np.uint8)
    subject, others = np.array([30.0, 25, 20, 50]), np.array([[70.0, 40, 10, 20], [-60, -60, 5, 5]])
    shown = draw_crop([visible, lwir], subject, [(others, PERSON_COLOR)])
    assert shown.shape == (SIDE_PX, 2 * SIDE_PX + GAP_PX, 3)
    assert shown.dtype == np.uint8
    # The window is the complete image.
    scale = SIDE_PX / 100
    for start in (0, SIDE_PX + GAP_PX):
        part = shown[:, start : start + SIDE_PX]
        x1, x2, y1, y2 = np.array([30, 50, 25, 75]) * scale
        np.testing.assert_allclose(find(part, SUBJECT_COLOR), [x1, x2, y1, y2], atol=2)
        x1, x2, y1, y2 = np.array([70, 80, 40, 60]) * scale
        np.testing.assert_allclose(find(part, PERSON_COLOR), [x1, x2, y1, y2], atol=1)
    assert shown[5, 5].tolist() == [10, 20, 30]
    assert shown[5, -5].tolist() == [77, 77, 77]
    assert (shown[:, SIDE_PX : SIDE_PX + GAP_PX] == 255).all()
    # The input is unchanged.
    assert visible.max() == 30


def test_crop_shows_the_surroundings_of_the_box():
    image = np.zeros((512, 640, 3), np.uint8)
    image[200:300, 300:340] = 200
    shown = draw_crop([image], np.array([300.0, 200, 40, 100]), [])
    assert shown.shape == (SIDE_PX, SIDE_PX, 3)
    bright = np.nonzero(shown[..., 2] == 200)
    scale = SIDE_PX / 220
    np.testing.assert_allclose([bright[1].min(), bright[1].max()], [90 * scale, 130 * scale], atol=4)
    np.testing.assert_allclose([bright[0].min(), bright[0].max()], [60 * scale, 160 * scale], atol=4)
