"""Boxes, scores and weights in a picture."""

import numpy as np

from dcrl_jax.inference.detector import People
from dcrl_jax.inference.draw import COLOR, GAP, draw_people

GREY = np.full((120, 160, 3), 90, np.uint8)


def people(*scores, weights=None):
    boxes = np.array([[20 + 40 * n, 30, 40 + 40 * n, 90] for n in range(len(scores))], np.float32).reshape(-1, 4)
    return People(boxes, np.array(scores, np.float32), weights)


def test_edges_of_a_box_are_coloured_and_its_inside_is_not():
    drawn = draw_people([GREY], people(0.9), 0.5)
    assert drawn.shape == GREY.shape
    for y, x in ((60, 20), (60, 40), (90, 30)):
        assert tuple(drawn[y, x]) == COLOR
    assert (drawn[40:80, 25:35] == 90).all()
    assert (GREY == 90).all()


def test_people_below_the_score_are_not_drawn():
    np.testing.assert_array_equal(draw_people([GREY], people(0.4), 0.5), GREY)
    np.testing.assert_array_equal(draw_people([GREY], people(), 0.5), GREY)


def test_pair_is_side_by_side_with_the_same_boxes_and_its_weights():
    lwir = np.full((120, 160, 1), 200, np.uint8)
    drawn = draw_people([GREY, lwir], people(0.9, weights={"visible": 0.3, "lwir": 0.7}), 0.5)
    assert drawn.shape == (120, 2 * 160 + GAP, 3)
    assert tuple(drawn[60, 20]) == tuple(drawn[60, 20 + 160 + GAP]) == COLOR
    assert (drawn[:, 160 : 160 + GAP] == 255).all()
    assert (drawn[10, 160 + GAP :] == 200).all()
    # The weights have a black ground in the lower left corners.
    assert (drawn[-10:, 4:60] == 0).any()
    assert (drawn[-10:, 164 + GAP : 200 + GAP] == 0).any()


def test_box_beyond_the_image_is_drawn_without_error():
    drawn = draw_people([GREY], People(np.array([[-5, 0, 300, 119]], np.float32), np.array([1.0]), None), 0.5)
    assert tuple(drawn[0, 80]) == COLOR
