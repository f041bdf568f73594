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


def edges(image, color):
    """Return the first and last column and row with a colour."""
    rows, columns = np.nonzero((image == color).all(axis=2))
    return columns.min(), columns.max(), rows.min(), rows.max()


def test_crop_of_every_image_shows_the_boxes_and_their_surroundings():
    visible, lwir = np.full((200, 200, 3), (10, 20, 30), np.uint8), np.full((200, 200, 1), 77, np.uint8)
    for image in (visible, lwir):
        image[140:170, 180:190] = 200
    subject, others = np.array([130.0, 105, 20, 50]), np.array([[170.0, 115, 10, 20], [-60, -60, 5, 5]])
    shown = draw_crop([visible, lwir], subject, [(others, PERSON_COLOR)])
    assert (shown.shape, shown.dtype) == ((SIDE_PX, 2 * SIDE_PX + GAP_PX, 3), np.uint8)
    # The window is 110 pixels wide and begins at (85, 75).
    scale = SIDE_PX / 110
    for start in (0, SIDE_PX + GAP_PX):
        part = shown[:, start : start + SIDE_PX]
        np.testing.assert_allclose(edges(part, SUBJECT_COLOR), np.array([45, 65, 30, 80]) * scale, atol=2)
        np.testing.assert_allclose(edges(part, PERSON_COLOR), np.array([85, 95, 40, 60]) * scale, atol=1)
        np.testing.assert_allclose(edges(part, (200, 200, 200)), np.array([95, 105, 65, 95]) * scale, atol=3)
    assert shown[5, [5, -5]].tolist() == [[10, 20, 30], [77, 77, 77]]
    assert (shown[:, SIDE_PX : SIDE_PX + GAP_PX] == 255).all()
    # The input is unchanged.
    assert np.unique(visible).tolist() == [10, 20, 30, 200]
