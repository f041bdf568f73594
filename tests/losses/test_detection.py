"""The terms of a detector's own loss, Eq. 1, 8 and 9, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.losses import detection as losses
from dcrl_jax.structures import RegionOutputs, Targets

pytestmark = pytest.mark.usefixtures("quick_compile")

LN2, LN3, LN4 = np.log([2.0, 3.0, 4.0])
# Cross entropy of logits (0, LN3): ln 4/3 where the pedestrian is right, ln 4 where the background is.
RIGHT, WRONG = LN4 - LN3, LN4


def make_targets(is_positive, is_sampled, offsets=None):
    is_positive, is_sampled = np.array(is_positive, bool), np.array(is_sampled, bool)
    if offsets is None:
        offsets = np.zeros((*is_positive.shape, 4))
    return Targets(is_positive, is_sampled, np.array(offsets, np.float32))


def sure(*shape):
    """Logits that give the pedestrian 3/4."""
    return jnp.broadcast_to(jnp.array([0.0, LN3]), (*shape, 2))


def test_masked_mean_is_a_mean_of_each_image_and_then_over_images():
    values = jnp.array([[1.0, 2.0, 100.0], [8.0, 100.0, 100.0]])
    mask = jnp.array([[True, True, False], [True, False, False]])
    # Not the mean of the three values, which would be 11/3.
    assert losses.masked_mean(values, mask) == (1.5 + 8.0) / 2


def test_masked_mean_counts_an_image_without_entries_as_zero():
    values = jnp.array([[4.0, 6.0], [jnp.nan, jnp.inf]])
    mask = jnp.array([[True, True], [False, False]])
    assert losses.masked_mean(values, mask) == 2.5
    assert losses.masked_mean(values, jnp.zeros_like(mask)) == 0.0


def test_masked_mean_of_a_large_batch_is_the_mean_over_its_equal_parts():
    rng = np.random.default_rng(0)
    values, mask = rng.normal(size=(4, 3, 2)).astype(np.float32), rng.random((4, 3, 2)) < 0.5
    halves = [losses.masked_mean(values[part], mask[part]) for part in (slice(0, 2), slice(2, 4))]
    np.testing.assert_allclose(losses.masked_mean(values, mask), np.mean(halves), rtol=1e-6)


def test_eq_1_classification_is_the_mean_cross_entropy_of_the_sampled():
    targets = make_targets([[1, 0, 0, 0], [1, 1, 0, 0]], [[1, 1, 1, 0], [1, 1, 1, 1]])
    logits = sure(2, 4).at[0, 3].set(jnp.array([50.0, -50.0]))
    expected = ((RIGHT + 2 * WRONG) / 3 + (2 * RIGHT + 2 * WRONG) / 4) / 2
    np.testing.assert_allclose(losses.classification(logits, targets), expected, rtol=1e-6)


def test_eq_1_classification_second_logit_is_the_pedestrian_s():
    pedestrian = make_targets([[1]], [[1]])
    assert losses.classification(jnp.array([[[0.0, 20.0]]]), pedestrian) < 1e-6
    np.testing.assert_allclose(losses.classification(jnp.array([[[20.0, 0.0]]]), pedestrian), 20, rtol=1e-6)


@pytest.mark.parametrize(
    ("error", "expected"), [(0.0, 0.0), (0.5, 0.125), (-0.5, 0.125), (1.0, 0.5), (2.0, 1.5), (-3.0, 2.5)]
)
def test_eq_1_smooth_l1_is_quadratic_below_one_and_linear_above(error, expected):
    assert losses.smooth_l1(jnp.float32(error)) == expected


def test_eq_1_gradient_of_smooth_l1_never_exceeds_one():
    gradient = jax.vmap(jax.grad(losses.smooth_l1))(jnp.array([-9.0, -0.25, 0.0, 0.25, 9.0]))
    np.testing.assert_allclose(gradient, [-1, -0.25, 0, 0.25, 1])


def test_eq_1_box_regression_sums_the_four_offsets_of_positives_over_all_sampled():
    targets = make_targets(
        [[1, 1, 0, 0], [1, 0, 0, 0]],
        [[1, 1, 1, 1], [1, 1, 0, 0]],
        [[[1, 2, 3, 4], [0, 0, 0, 0], [9, 9, 9, 9], [9, 9, 9, 9]], [[0.5, 0, 0, 0], *[[9] * 4] * 3]],
    )
    offsets = np.zeros((2, 4, 4), np.float32)
    offsets[0, 0] = [1.5, 2, 1, 4]  # errors 0.5, 0, -2, 0
    offsets[0, 1] = [0, -1, 0, 3]  # errors 0, -1, 0, 3
    expected = ((0.125 + 1.5 + 0.5 + 2.5) / 4 + 0.125 / 2) / 2
    np.testing.assert_allclose(losses.box_regression(offsets, targets), expected, rtol=1e-6)


def test_eq_1_positive_that_was_not_sampled_is_not_regressed():
    targets = make_targets([[1, 0]], [[0, 1]], [[[5, 5, 5, 5], [0, 0, 0, 0]]])
    assert losses.box_regression(jnp.zeros((1, 2, 4)), targets) == 0.0


@pytest.mark.parametrize("term", [losses.classification, losses.box_regression])
def test_eq_1_unsampled_nan_reaches_neither_value_nor_gradient(term):
    # A positive, a negative and a place left empty.
    targets = make_targets([[1, 0, 0]], [[1, 1, 0]], [[[1, 1, 1, 1], [np.nan] * 4, [np.nan] * 4]])
    clean = make_targets([[1, 0, 0]], [[1, 1, 0]], [[[1, 1, 1, 1], [0] * 4, [0] * 4]])
    outputs = jnp.arange(6.0).reshape(1, 3, 2) if term is losses.classification else jnp.full((1, 3, 4), 0.25)
    value, gradient = jax.value_and_grad(term)(outputs.at[0, 2].set(jnp.nan), targets)
    expected, expected_gradient = jax.value_and_grad(term)(outputs, clean)
    assert value == expected > 0
    np.testing.assert_array_equal(gradient, expected_gradient)
    assert gradient[0, 0].any()
    assert not gradient[0, 2].any()


def test_image_without_people_teaches_the_background_and_no_box():
    targets = make_targets([[0, 0]], [[1, 1]], np.full((1, 2, 4), np.nan))
    np.testing.assert_allclose(losses.classification(sure(1, 2), targets), WRONG, rtol=1e-6)
    offsets = jnp.ones((1, 2, 4))
    assert losses.box_regression(offsets, targets) == 0.0
    assert not jax.grad(losses.box_regression)(offsets, targets).any()


def test_image_without_samples_counts_as_zero_with_a_finite_gradient():
    targets = make_targets([[0, 0], [1, 0]], [[0, 0], [1, 0]], np.zeros((2, 2, 4)))
    value, gradient = jax.value_and_grad(losses.classification)(sure(2, 2), targets)
    np.testing.assert_allclose(value, RIGHT / 2, rtol=1e-6)
    assert not gradient[0].any()
    np.testing.assert_allclose(gradient[1, 0], [0.125, -0.125], rtol=1e-6)
    value, gradient = jax.value_and_grad(losses.box_regression)(jnp.ones((2, 2, 4)), targets)
    assert value == 4 * 0.5 / 2
    assert np.isfinite(gradient).all()


def test_cell_centres_stand_in_the_middle_of_their_cells():
    x, y = losses.cell_centres(2, 3, 8)
    np.testing.assert_array_equal(x, [[4, 12, 20], [4, 12, 20]])
    np.testing.assert_array_equal(y, [[4, 4, 4], [12, 12, 12]])


def test_bin_centres_divide_each_roi_evenly():
    x, y = losses.bin_centres(jnp.array([[10.0, 20, 16, 28], [0, 0, 0, 0]]), 2)
    np.testing.assert_allclose(x[0], [[11.5, 14.5], [11.5, 14.5]])
    np.testing.assert_allclose(y[0], [[22, 22], [26, 26]])
    assert not x[1].any()
    assert not y[1].any()


def test_box_mask_holds_the_upper_left_border_and_not_the_lower_right_one():
    x, y = jnp.array([4.0, 12.0, 20.0, 12.0, 12.0]), jnp.array([6.0, 6.0, 6.0, 5.0, 7.0])
    boxes = jnp.array([[4.0, 6, 20, 7], [0, 0, 99, 99]])
    inside = losses.box_mask(x, y, boxes, jnp.array([True, False]))
    np.testing.assert_array_equal(inside, [True, True, False, False, False])


def test_eq_8_masks_are_the_cells_whose_centre_lies_in_a_pedestrian_s_box():
    # Cells of 8 pixels, centres at 4, 12, 20 and 28. The third box is padding, the fourth an ignore region.
    boxes = np.array([[[3, 3, 13, 21], [20, 10, 28, 30], [np.nan] * 4, [16, 0, 32, 16]]], np.float32)
    is_person = np.array([[True, True, False, False]])
    is_ignore = np.array([[False, False, False, True]])
    pedestrian, counted = losses.rpg_masks(4, 4, 8, boxes, is_person, is_ignore)
    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0]]
    np.testing.assert_array_equal(pedestrian[0], np.array(expected, bool))
    # Inside the ignore region only the cell of the second pedestrian counts.
    expected = [[1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    np.testing.assert_array_equal(counted[0], np.array(expected, bool))


def test_eq_8_each_image_has_its_own_mask_and_one_without_people_counts_everywhere():
    boxes = np.array([[[0, 0, 8, 8]], [[0, 0, 8, 8]], [[8, 8, 16, 16]]], np.float32)
    flags = np.array([[True], [False], [True]])
    pedestrian, counted = losses.rpg_masks(2, 2, 8, boxes, flags, np.zeros((3, 1), bool))
    np.testing.assert_array_equal(pedestrian[:, 0, 0], [True, False, False])
    np.testing.assert_array_equal(pedestrian[:, 1, 1], [False, False, True])
    assert pedestrian.sum() == 2
    assert counted.all()


def test_eq_8_is_the_mean_cross_entropy_over_the_counted_pixels_of_an_image():
    logits = sure(2, 2, 2).at[0, 0, 0].set(jnp.array([0.0, 0.0]))
    pedestrian = np.array([[[True, True], [False, False]], [[False] * 2, [False] * 2]])
    counted = np.array([[[True, True], [True, False]], [[True] * 2, [True] * 2]])
    expected = ((LN2 + RIGHT + WRONG) / 3 + WRONG) / 2
    np.testing.assert_allclose(losses.segmentation(logits, pedestrian, counted), expected, rtol=1e-6)


def test_eq_9_masks_are_the_bins_whose_centre_lies_in_a_pedestrian_s_box():
    # Bins of 4x8 and 2x2 pixels; the third RoI was not sampled. The ignore regions end the list.
    rois = np.array([[[0, 0, 8, 16], [8, 8, 12, 12], [0, 0, 8, 16]]], np.float32)
    boxes = np.array([[[2, 4, 6, 12.5], [10, 8, 20, 30], [np.nan] * 4, [8, 10, 10, 20], [0, 0, 5, 5]]], np.float32)
    is_person = np.array([[True, True, False, False, False]])
    is_ignore = np.array([[False, False, False, True, True]])
    sampled = np.array([[True, True, False]])
    pedestrian, counted = losses.rdr_masks(rois, 2, sampled, boxes, is_person, is_ignore)
    # Centres of the first: x 2 and 6, y 4 and 12; of the second: x and y 9 and 11.
    np.testing.assert_array_equal(pedestrian[0, 0], [[True, False], [True, False]])
    np.testing.assert_array_equal(pedestrian[0, 1], [[False, True], [False, True]])
    # The first bin lies in an ignore region, but also in a pedestrian's box: it counts.
    np.testing.assert_array_equal(counted[0, 0], [[True, True], [True, True]])
    np.testing.assert_array_equal(counted[0, 1], [[True, True], [False, True]])
    assert not counted[0, 2].any()


def test_eq_9_is_the_mean_over_all_bins_of_the_sampled_rois_of_an_image():
    logits = sure(2, 2, 1, 2).at[0, 1].set(jnp.nan)
    pedestrian = np.array([[[[True, False]], [[True, True]]], [[[True, True]], [[True, False]]]])
    counted = np.array([[[[True, True]], [[False, False]]], [[[True, True]], [[True, True]]]])
    expected = ((RIGHT + WRONG) / 2 + (3 * RIGHT + WRONG) / 4) / 2
    np.testing.assert_allclose(losses.segmentation(logits, pedestrian, counted), expected, rtol=1e-6)


def test_segmentation_without_counted_pixels_is_zero_with_a_finite_gradient():
    nothing = np.zeros((1, 2, 2), bool)
    value, gradient = jax.value_and_grad(losses.segmentation)(sure(1, 2, 2), nothing, nothing)
    assert value == 0.0
    assert not gradient.any()


def test_stage_terms_are_of_the_fused_outputs_and_the_mean_of_the_branches_own():
    targets = make_targets([[1, 0]], [[1, 1]], [[[1, 0, 0, 0], [0, 0, 0, 0]]])
    even = jnp.zeros((1, 2, 2))
    offsets = jnp.zeros((1, 2, 4))
    outputs = RegionOutputs(
        logits=sure(1, 2),
        offsets=offsets.at[0, 0, 0].set(4.0),
        branch_logits=jnp.stack([even, sure(1, 2)]),
        branch_offsets=jnp.stack([offsets, offsets.at[0, 0, 0].set(1.0)]),
        segmentation_logits=None,
    )
    terms = losses.stage_terms(outputs, targets, "rpg")
    assert set(terms) == {"rpg_cls", "rpg_reg", "rpg_branches"}
    np.testing.assert_allclose(terms["rpg_cls"], (RIGHT + WRONG) / 2, rtol=1e-6)
    np.testing.assert_allclose(terms["rpg_reg"], 2.5 / 2, rtol=1e-6)
    # The visible branch: ln 2 and a box error of 1; the thermal one: the fused logits and no error.
    expected = ((LN2 + 0.5 / 2) + (RIGHT + WRONG) / 2) / 2
    np.testing.assert_allclose(terms["rpg_branches"], expected, rtol=1e-6)


def test_stage_terms_of_a_detector_of_one_branch_are_those_of_its_outputs_alone():
    targets = make_targets([[1, 0]], [[1, 1]], [[[1, 0, 0, 0], [0, 0, 0, 0]]])
    offsets = jnp.zeros((1, 2, 4)).at[0, 0, 0].set(4.0)
    terms = losses.stage_terms(RegionOutputs(sure(1, 2), offsets, None), targets, "rdr")
    assert set(terms) == {"rdr_cls", "rdr_reg"}
    np.testing.assert_allclose(terms["rdr_cls"], (RIGHT + WRONG) / 2, rtol=1e-6)
    np.testing.assert_allclose(terms["rdr_reg"], 2.5 / 2, rtol=1e-6)


def test_eq_1_total_is_the_terms_times_their_weights():
    terms = {"a": jnp.float32(2.0), "b": jnp.float32(3.0), "c": jnp.float32(5.0)}
    assert losses.weighted_sum(terms, {"a": 1.0, "b": 10.0, "c": 0.5, "unused": 7.0}) == 34.5


def test_eq_1_weight_of_zero_leaves_its_term_out_even_if_it_is_not_a_number():
    terms = {"a": jnp.float32(2.0), "b": jnp.float32(jnp.nan)}
    assert losses.weighted_sum(terms, {"a": 1.0, "b": 0.0}) == 2.0


def test_eq_1_term_without_a_weight_is_an_error():
    with pytest.raises(KeyError, match="b"):
        losses.weighted_sum({"a": jnp.float32(2.0), "b": jnp.float32(3.0)}, {"a": 1.0})
