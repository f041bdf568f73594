"""Terms of a detector's own loss, Eq. 1, 8 and 9, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_cases import LN2, LN3, LN4, make_targets, sure, value, value_and_gradient

from dcrl_jax.losses import detection as losses
from dcrl_jax.structures import RegionOutputs

pytestmark = pytest.mark.usefixtures("quick_compile")

# Cross entropy of logits (0, ln 3): ln 4/3 if the pedestrian is right, ln 4 if the background is.
RIGHT, WRONG = LN4 - LN3, LN4
NAN = np.nan


@pytest.mark.parametrize(
    ("values", "mask", "expected"),
    [
        # Not the mean of the three values, which would be 11/3.
        ([[1.0, 2.0, 100.0], [8.0, 100.0, 100.0]], [[1, 1, 0], [1, 0, 0]], (1.5 + 8.0) / 2),
        ([[4.0, 6.0, 9.0], [NAN, np.inf, 1.0]], [[1, 1, 0], [0, 0, 0]], 2.5),
        ([[4.0, 6.0, 9.0], [NAN, np.inf, 1.0]], [[0, 0, 0], [0, 0, 0]], 0.0),
    ],
    ids=["per image, then over images", "image without entries", "no entries"],
)
def test_masked_mean(values, mask, expected):
    assert value(losses.masked_mean, values, np.array(mask, bool)) == expected


def test_eq_1_smooth_l1_is_quadratic_below_one_and_linear_above():
    errors = np.float32([0.0, 0.5, -0.5, 1.0, 2.0, -3.0])
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(losses.smooth_l1)))(errors)
    np.testing.assert_array_equal(values, [0, 0.125, 0.125, 0.5, 1.5, 2.5])
    np.testing.assert_array_equal(gradients, [0, 0.5, -0.5, 1, 1, -1])


def test_eq_1_classification_is_the_mean_cross_entropy_of_the_samples():
    targets = make_targets([[1, 0, 0, 0], [1, 1, 0, 0]], [[1, 1, 1, 0], [1, 1, 1, 1]])
    logits = sure(2, 4, at=[((0, 3), [50.0, -50.0])])
    expected = ((RIGHT + 2 * WRONG) / 3 + (2 * RIGHT + 2 * WRONG) / 4) / 2
    np.testing.assert_allclose(value(losses.classification, logits, targets), expected, rtol=1e-6)


def test_eq_1_box_regression_sums_offsets_of_positives_over_all_samples():
    nine = [9, 9, 9, 9]
    targets = make_targets(
        *([[1, 1, 0, 0], [1, 0, 0, 1]], [[1, 1, 1, 1], [1, 1, 0, 0]]),  # the last positive is not sampled
        [[[1, 2, 3, 4], [0, 0, 0, 0], nine, nine], [[0.5, 0, 0, 0], nine, nine, nine]],
    )
    offsets = np.zeros((2, 4, 4), np.float32)
    offsets[0, 0] = [1.5, 2, 1, 4]  # errors 0.5, 0, -2, 0
    offsets[0, 1] = [0, -1, 0, 3]  # errors 0, -1, 0, 3
    expected = ((0.125 + 1.5 + 0.5 + 2.5) / 4 + 0.125 / 2) / 2
    np.testing.assert_allclose(value(losses.box_regression, offsets, targets), expected, rtol=1e-6)


@pytest.mark.parametrize(("term", "size"), [(losses.classification, 2), (losses.box_regression, 4)])
def test_eq_1_nan_of_padding_reaches_neither_value_nor_gradient(term, size):
    # A positive, a negative and an empty position. Only the positive has offsets.
    outputs = np.arange(3.0 * size).reshape(1, 3, size)
    results = []
    for padding in (0.0, NAN):
        outputs[0, 2] = padding
        targets = make_targets([[1, 0, 0]], [[1, 1, 0]], [[[1] * 4, [padding] * 4, [padding] * 4]])
        results.append(value_and_gradient(term, outputs, targets))
    (clean, gradient), (padded, padded_gradient) = results
    assert padded == clean > 0
    np.testing.assert_array_equal(padded_gradient, gradient)
    assert gradient[0].any(-1).tolist() == [True, term is losses.classification, False]


def test_box_mask_includes_the_left_and_top_edge_only():
    x, y = np.float32([4, 12, 20, 12, 12]), np.float32([6, 6, 6, 5, 7])
    inside = jax.jit(losses.box_mask)(x, y, np.float32([[4, 6, 20, 7], [0, 0, 99, 99]]), np.array([True, False]))
    np.testing.assert_array_equal(inside, [True, True, False, False, False])


def test_eq_8_masks_are_the_cells_with_their_centre_in_a_pedestrians_box():
    # Cells of 8 pixels, centres at 4, 12, 20 and 28. The third box is padding, the fourth an ignore region. In the
    # second image the first box is the only one.
    boxes = np.float32([[[3, 3, 13, 21], [20, 10, 28, 30], [NAN] * 4, [16, 0, 32, 16]], [[8, 8, 16, 16]] * 4])
    is_person = np.array([[True, True, False, False], [True, False, False, False]])
    is_ignore = np.array([[False, False, False, True], [False] * 4])
    pedestrian, counted = jax.jit(losses.rpg_masks, static_argnums=(0, 1, 2))(4, 4, 8, boxes, is_person, is_ignore)
    np.testing.assert_array_equal(pedestrian[0], [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(pedestrian[1], [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    # Inside the ignore region only the cell of the second pedestrian counts.
    np.testing.assert_array_equal(counted[0], [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]])
    assert counted[1].all()


def test_eq_9_masks_are_the_bins_with_their_centre_in_a_pedestrians_box():
    # Bins of 4x8 and 2x2 pixels; the third RoI was not sampled. The last two boxes are ignore regions.
    rois = np.float32([[[0, 0, 8, 16], [8, 8, 12, 12], [0, 0, 8, 16]]])
    boxes = np.float32([[[2, 4, 6, 12.5], [10, 8, 20, 30], [NAN] * 4, [8, 10, 10, 20], [0, 0, 5, 5]]])
    is_person = np.array([[True, True, False, False, False]])
    is_ignore = np.array([[False, False, False, True, True]])
    sampled = np.array([[True, True, False]])
    pedestrian, counted = jax.jit(losses.rdr_masks, static_argnums=1)(rois, 2, sampled, boxes, is_person, is_ignore)
    # Centres of the first RoI: x 2 and 6, y 4 and 12; of the second: x and y 9 and 11.
    np.testing.assert_array_equal(pedestrian[0, :2], [[[1, 0], [1, 0]], [[0, 1], [0, 1]]])
    # The first bin is in an ignore region, but also in a pedestrian's box: it counts.
    np.testing.assert_array_equal(counted[0], [[[1, 1], [1, 1]], [[1, 1], [0, 1]], [[0, 0], [0, 0]]])


def test_eq_8_and_9_are_the_mean_cross_entropy_of_the_counted():
    # Two images, two RoIs of 1x2 bins.
    logits = sure(2, 2, 1, 2, at=[((0, 1), NAN), ((0, 0, 0, 0), 0.0)])
    is_pedestrian = np.array([[[[1, 0]], [[1, 1]]], [[[1, 1]], [[1, 0]]]], bool)
    counted = np.array([[[[1, 1]], [[0, 0]]], [[[1, 1]], [[1, 1]]]], bool)
    total, gradient = value_and_gradient(losses.segmentation, logits, is_pedestrian, counted)
    np.testing.assert_allclose(total, ((LN2 + WRONG) / 2 + (3 * RIGHT + WRONG) / 4) / 2, rtol=1e-6)
    np.testing.assert_array_equal(gradient.all(-1), counted)


def test_stage_terms_of_fused_outputs_and_of_branches():
    targets = make_targets([[1, 0]], [[1, 1]], [[[1, 0, 0, 0], [0, 0, 0, 0]]])
    offsets = np.zeros((3, 1, 2, 4), np.float32)
    offsets[:, 0, 0, 0] = 4, 0, 1  # fused, visible, thermal
    branch_logits = np.stack([np.zeros((1, 2, 2), np.float32), sure(1, 2)])
    outputs = RegionOutputs(sure(1, 2), offsets[0], None, branch_logits, branch_offsets=offsets[1:])
    expected = {"rpg_cls": (RIGHT + WRONG) / 2, "rpg_reg": 2.5 / 2}
    # The visible branch: ln 2 and a box error of 1; the thermal branch: the fused logits and no error.
    branches = {"rpg_branches": ((LN2 + 0.5 / 2) + (RIGHT + WRONG) / 2) / 2}
    stage_terms = jax.jit(losses.stage_terms, static_argnums=2)
    for these, terms in ((outputs, expected | branches), (outputs._replace(branch_logits=None), expected)):
        found = stage_terms(these, targets, "rpg")
        assert found.keys() == terms.keys()
        for name, term in terms.items():
            np.testing.assert_allclose(found[name], term, rtol=1e-6)


def test_eq_1_total_is_the_sum_of_terms_times_weights():
    terms = {"a": jnp.float32(2.0), "b": jnp.float32(3.0), "c": jnp.float32(5.0)}
    assert losses.weighted_sum(terms, {"a": 1.0, "b": 10.0, "c": 0.5, "unused": 7.0}) == 34.5
    # A weight of 0 leaves its term out, even a NaN.
    assert losses.weighted_sum(terms | {"c": jnp.float32(NAN)}, {"a": 1.0, "b": 10.0, "c": 0.0}) == 32.0
    with pytest.raises(KeyError, match="c"):
        losses.weighted_sum(terms, {"a": 1.0, "b": 1.0})
