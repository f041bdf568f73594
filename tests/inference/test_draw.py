"""Boxes, scores and weights in a picture."""

import numpy as np

from dcrl_jax.inference.detector import People
from dcrl_jax.inference.draw import COLOR, GAP, draw_people

GREY = np.full((120, 160, 3), 90, np.uint8)


def person(score, box=(20, 30, 40, 90), weights=None):
    return People(np.array([box], np.float32), np.array([score], np.float32), weights)


def test_edges_of_boxes_from_the_score_on_are_coloured():
    drawn = draw_people([GREY], person(0.9), 0.5)
    assert drawn.shape == GREY.shape
    assert (drawn[[60, 60, 90], [20, 40, 30]] == COLOR).all()
    assert (drawn[40:80, 25:35] == 90).all()
    assert (GREY == 90).all()
    beyond = draw_people([GREY], person(1.0, (-5, 0, 300, 119)), 0.5)
    assert tuple(beyond[0, 80]) == COLOR
    nobody = People(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), None)
    for people in (person(0.4), nobody):
        np.testing.assert_array_equal(draw_people([GREY], people, 0.5), GREY)


def test_pair_is_side_by_side_with_the_same_boxes_and_its_weights():
    lwir = np.full((120, 160, 1), 200, np.uint8)
    drawn = draw_people([GREY, lwir], person(0.9, weights={"visible": 0.3, "lwir": 0.7}), 0.5)
    assert drawn.shape == (120, 2 * 160 + GAP, 3)
    assert tuple(drawn[60, 20]) == tuple(drawn[60, 20 + 160 + GAP]) == COLOR
    assert (drawn[:, 160 : 160 + GAP] == 255).all()
    assert (drawn[10, 160 + GAP :] == 200).all()
    # The weights have a black ground in the lower left corners.
    assert (drawn[-10:, 4:60] == 0).any()
    assert (drawn[-10:, 164 + GAP : 200 + GAP] == 0).any()


def test_image_without_its_partner_says_so():
    lwir = np.full((120, 160, 1), 200, np.uint8)
    people = person(0.4, weights={"visible": 0.3, "lwir": 0.7})._replace(modalities=("lwir",))
    drawn = draw_people([lwir], people, 0.5)
    assert drawn.shape == (120, 160, 3)
    assert (drawn[:100] == 200).all()
    assert (drawn[-10:, 4:60] == 0).any()
