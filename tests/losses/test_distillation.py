"""What the teacher adds to the student's loss, Eq. 14-18, by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dcrl_jax.losses import detection
from dcrl_jax.losses import distillation as losses
from dcrl_jax.losses.distillation import NOTHING, Distillation
from dcrl_jax.structures import Targets

pytestmark = pytest.mark.usefixtures("quick_compile")

LN2, LN3, LN4 = np.log([2.0, 3.0, 4.0])
ALL_ON = Distillation(True, True, True, True, 0.5, 0.25, 1.0, 0.75, 0.0, 0.125)
STAGES = ("rpg", "rdr")
SHAPES = {"rpg": (2, 2, 3), "rdr": (2, 3, 2, 2)}  # pixels of Eq. 18: [B, h, w] and [B, R, s, s]


def make_targets(is_positive, is_sampled, offsets=None):
    is_positive, is_sampled = np.array(is_positive, bool), np.array(is_sampled, bool)
    if offsets is None:
        offsets = np.zeros((*is_positive.shape, 4))
    return Targets(is_positive, is_sampled, np.array(offsets, np.float32))


def sure(*shape):
    """Logits that give the pedestrian 3/4."""
    return jnp.broadcast_to(jnp.array([0.0, LN3]), (*shape, 2))


def surer(*shape):
    """Logits that give the pedestrian 9/10, and 3/4 at a temperature of 2."""
    return jnp.broadcast_to(jnp.array([0.0, 2 * LN3]), (*shape, 2))


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# Eq. 15


def test_eq_15_is_the_mean_squared_difference_of_an_image_and_then_over_images():
    teacher = jnp.array([[[[0.0, 0], [2, 6]]], [[[1, 1], [1, 1]]]])
    difference = jnp.array([[[[1.0, -2], [3, 0]]], [[[0, 0], [0, 6]]]])
    # (1 + 4 + 9 + 0) / 4 = 3.5 and 36 / 4 = 9.
    assert losses.features(teacher + difference, teacher) == (3.5 + 9) / 2


# Eq. 16


def test_eq_16_soft_labels_are_the_teacher_s_softmax():
    # Labels 1/10 and 9/10 against log probabilities of ln 1/4 and ln 3/4.
    expected = 0.1 * LN4 + 0.9 * (LN4 - LN3)
    np.testing.assert_allclose(losses.soft_cross_entropy(sure(1), surer(1)), [expected], rtol=1e-6)


def test_eq_16_temperature_softens_the_teacher_s_logits_and_not_the_student_s():
    # At T = 2 the labels are 1/4 and 3/4; the student's 3/4 stays, and no factor of T^2 appears.
    expected = 0.25 * LN4 + 0.75 * (LN4 - LN3)
    np.testing.assert_allclose(losses.soft_cross_entropy(sure(1), surer(1), 2.0), [expected], rtol=1e-6)


def test_eq_16_gradient_is_the_student_s_probability_less_the_soft_label():
    gradient = jax.grad(lambda x: losses.soft_cross_entropy(x, surer(), 1.0))(sure())
    np.testing.assert_allclose(gradient, [0.25 - 0.1, 0.75 - 0.9], rtol=1e-5)


def test_eq_16_gradient_vanishes_where_both_say_the_same():
    targets = make_targets([[1, 0]], [[1, 1]])
    gradient = jax.grad(losses.classification)(sure(1, 2), surer(1, 2), targets, 2.0)
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


def test_eq_16_is_the_mean_over_the_sampled_of_an_image_whatever_their_labels():
    targets = make_targets([[1, 0, 0, 1], [0, 1, 0, 0]], [[1, 1, 1, 0], [1, 0, 0, 0]])
    logits = sure(2, 4).at[0, 1].set(0.0).at[0, 3].set(jnp.array([50.0, -50.0]))
    # At T = 2 the labels are 1/4 and 3/4 everywhere; an even student pays ln 2.
    alike = LN4 - 0.75 * LN3
    expected = ((2 * alike + LN2) / 3 + alike) / 2
    np.testing.assert_allclose(losses.classification(logits, surer(2, 4), targets, 2.0), expected, rtol=1e-6)


def test_eq_16_zeta_mixes_hard_and_soft_labels():
    targets = make_targets([[1, 0]], [[1, 1]])
    terms = {
        "rpg_cls": detection.classification(sure(1, 2), targets),
        "rpg_cls_soft": losses.classification(sure(1, 2), surer(1, 2), targets, 1.0),
    }
    weights = losses.loss_weights(ALL_ON, 1.0, 1.0)
    # Hard: ln 4/3 for the pedestrian, ln 4 for the background. Soft: ln 4 - 0.9 ln 3 for both.
    expected = 0.25 * (LN4 - LN3 + LN4) / 2 + 0.75 * (LN4 - 0.9 * LN3)
    np.testing.assert_allclose(detection.weighted_sum(terms, weights), expected, rtol=1e-6)


# Eq. 17

GOAL = [0.5, -1, 2, 0]
STUDENT_ERROR = [1.0, 2, 0, 0]  # squared norm 5


def bound_term(teacher_error, delta=0.0):
    """L_b of one sampled positive with STUDENT_ERROR."""
    goal = np.array(GOAL, np.float32)
    offsets = [[goal + np.array(error, np.float32)] for error in (STUDENT_ERROR, teacher_error)]
    return float(losses.box_regression(*map(jnp.array, offsets), make_targets([[1]], [[1]], [[GOAL]]), delta))


@pytest.mark.parametrize(
    ("teacher_error", "delta", "expected"),
    [
        ([0, 0, 0, 0], 0.0, 5),  # 5 > 0
        ([0, 0, 0, 2], 0.0, 5),  # 5 > 4
        ([1, 0, 2, 0], 0.0, 0),  # 5 = 5: no worse than the teacher
        ([1, 0, 2, 0], 0.5, 5),  # 5.5 > 5
        ([0, 3, 0, 0], 0.0, 0),  # 5 < 9
        ([0, 3, 0, 0], 4.0, 0),  # 9 = 9
        ([0, 3, 0, 0], 4.5, 5),  # 9.5 > 9: within the margin of the teacher's error; the margin is not added
        ([0, 0, 0, -2], -2.0, 0),  # 3 < 4
    ],
)
def test_eq_17_squared_error_counts_where_it_exceeds_the_teacher_s_less_the_margin(teacher_error, delta, expected):
    assert bound_term(teacher_error, delta) == expected


def test_eq_17_squared_norm_is_over_all_four_offsets():
    targets = make_targets([[1]], [[1]], [[[1, 2, 3, 4]]])
    offsets = jnp.array([[[2.0, 0, 6, 0]]])
    # Errors 1, -2, 3, -4. Each offset of the teacher's is better or equal but the first: its sum is 25 + 0 + 0 + 0.
    assert losses.box_regression(offsets, jnp.array([[[6.0, 2, 3, 4]]]), targets, 0.0) == 1 + 4 + 9 + 16
    # 36 is more than 30: the first offset decides for all four.
    assert losses.box_regression(offsets, jnp.array([[[7.0, 2, 3, 4]]]), targets, 0.0) == 0


def test_eq_17_is_of_sampled_positives_alone_and_divided_by_all_sampled():
    is_positive = [[1, 1, 0, 1, 0], [1, 0, 0, 0, 0]]
    is_sampled = [[1, 1, 1, 0, 1], [1, 1, 0, 0, 0]]
    targets = make_targets(is_positive, is_sampled)
    offsets = np.full((2, 5, 4), 7, np.float32)
    offsets[0, 0] = [1, 2, 0, 0]  # 5, worse than the teacher
    offsets[0, 1] = [0, 0, 1, 0]  # 1, better
    offsets[1, 0] = [0, 3, 0, 1]  # 10, worse
    teacher = np.zeros((2, 5, 4), np.float32)
    teacher[0, 1] = [2, 0, 0, 0]
    # Four of the first image's are sampled, two of the second's.
    assert losses.box_regression(offsets, teacher, targets, 0.0) == (5 / 4 + 10 / 2) / 2


def test_eq_17_gradient_is_twice_the_error_of_those_that_count_and_zero_elsewhere():
    targets = make_targets([[1, 1, 0]], [[1, 1, 1]], [[GOAL, GOAL, GOAL]])
    offsets = jnp.array([GOAL, GOAL, GOAL]) + jnp.array([STUDENT_ERROR, STUDENT_ERROR, STUDENT_ERROR])
    teacher = jnp.array([GOAL, GOAL, GOAL]) + jnp.array([[0.0, 0, 0, 2], [0, 3, 0, 0], [0, 0, 0, 0]])
    gradient = jax.grad(losses.box_regression)(offsets[None], teacher[None], targets, 0.0)
    np.testing.assert_allclose(gradient[0], [[2 / 3, 4 / 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], rtol=1e-6)


def test_eq_17_image_without_people_adds_nothing():
    targets = make_targets([[0, 0]], [[1, 1]], np.full((1, 2, 4), np.nan))
    value, gradient = jax.value_and_grad(losses.box_regression)(jnp.ones((1, 2, 4)), jnp.zeros((1, 2, 4)), targets, 9.0)
    assert value == 0.0
    assert not gradient.any()


def test_eq_17_epsilon_weighs_the_penalty_beside_the_smooth_l1_loss():
    targets = make_targets([[1]], [[1]], [[GOAL]])
    offsets = jnp.array([[GOAL]]) + jnp.array(STUDENT_ERROR)
    terms = {
        "rdr_reg": detection.box_regression(offsets, targets),
        "rdr_reg_bound": losses.box_regression(offsets, jnp.array([[GOAL]]), targets, 0.0),
    }
    # Smooth L1 of 1 and 2: 0.5 and 1.5. The squared norm is 5; epsilon is 0.75, lambda 2 weighs both.
    assert detection.weighted_sum(terms, losses.loss_weights(ALL_ON, 2.0, 1.0)) == 2 * (2.0 + 0.75 * 5)


# Eq. 18


def test_eq_18_in_the_rpg_stage_is_the_mean_over_the_counted_pixels_of_an_image():
    logits = sure(2, 2, 2).at[0, 0, 0].set(0.0).at[0, 1, 1].set(jnp.array([50.0, -50.0]))
    counted = np.array([[[True, True], [True, False]], [[True, True], [True, True]]])
    # Soft labels 1/10 and 9/10.
    alike = LN4 - 0.9 * LN3
    expected = ((LN2 + 2 * alike) / 3 + alike) / 2
    np.testing.assert_allclose(losses.segmentation(logits, surer(2, 2, 2), counted), expected, rtol=1e-6)


def test_eq_18_in_the_rdr_stage_is_the_mean_over_the_counted_bins_of_all_rois_of_an_image():
    # Two images, three RoIs of 2x2 bins. Of the first image one RoI and a bin count, of the second everything.
    logits = sure(2, 3, 2, 2).at[0, 0, 0, 0].set(0.0).at[1, 2].set(0.0).at[0, 2].set(jnp.array([50.0, -50.0]))
    counted = np.ones((2, 3, 2, 2), bool)
    counted[0, 1:] = False
    counted[0, 1, 1, 0] = True
    alike = LN4 - 0.9 * LN3
    expected = ((LN2 + 4 * alike) / 5 + (4 * LN2 + 8 * alike) / 12) / 2
    np.testing.assert_allclose(losses.segmentation(logits, surer(2, 3, 2, 2), counted), expected, rtol=1e-6)


def test_eq_18_teacher_s_logits_are_not_softened_by_the_temperature_of_eq_16():
    # It has no argument for it: the labels are 9/10, not the 3/4 of T = 2.
    value = losses.segmentation(sure(1, 1, 1), surer(1, 1, 1), np.ones((1, 1, 1), bool))
    np.testing.assert_allclose(value, LN4 - 0.9 * LN3, rtol=1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_eq_18_xi_mixes_the_annotated_and_the_teacher_s_masks(stage):
    shape = SHAPES[stage]
    is_pedestrian, counted = np.zeros(shape, bool), np.ones(shape, bool)
    terms = {
        f"{stage}_seg": detection.segmentation(sure(*shape), is_pedestrian, counted),
        f"{stage}_seg_soft": losses.segmentation(sure(*shape), surer(*shape), counted),
    }
    # xi is 0.125, eta 3; no pixel is a pedestrian's.
    expected = 3 * (0.125 * LN4 + 0.875 * (LN4 - 0.9 * LN3))
    np.testing.assert_allclose(
        detection.weighted_sum(terms, losses.loss_weights(ALL_ON, 1.0, 3.0)), expected, rtol=1e-6
    )


@pytest.mark.parametrize("stage", STAGES)
def test_eq_18_without_counted_pixels_is_zero_with_a_finite_gradient(stage):
    shape = SHAPES[stage]
    value, gradient = jax.jit(jax.value_and_grad(losses.segmentation))(
        sure(*shape), surer(*shape), np.zeros(shape, bool)
    )
    assert value == 0.0
    assert not gradient.any()


# Eq. 14


def test_eq_14_total_by_hand():
    terms = {
        "fea": 10.0,
        "rpg_cls": 4.0,
        "rpg_cls_soft": 8.0,
        "rpg_reg": 1.0,
        "rpg_reg_bound": 2.0,
        "rpg_seg": 16.0,
        "rpg_seg_soft": 8.0,
        "rdr_cls": 8.0,
        "rdr_cls_soft": 4.0,
        "rdr_reg": 3.0,
        "rdr_reg_bound": 4.0,
        "rdr_seg": 8.0,
        "rdr_seg_soft": 16.0,
    }
    # zeta 1/4, epsilon 3/4, xi 1/8, rho 1/2, lambda 2, eta 3.
    rpg = (0.25 * 4 + 0.75 * 8) + 2 * (1 + 0.75 * 2) + 3 * (0.125 * 16 + 0.875 * 8)
    rdr = (0.25 * 8 + 0.75 * 4) + 2 * (3 + 0.75 * 4) + 3 * (0.125 * 8 + 0.875 * 16)
    assert (rpg, rdr) == (7 + 5 + 27, 5 + 12 + 45)
    total = detection.weighted_sum(terms, losses.loss_weights(ALL_ON, box_weight=2.0, segmentation_weight=3.0))
    assert total == 39 + 62 + 0.5 * 10


def test_eq_14_a_weight_for_every_term_and_for_no_other():
    names = {f"{stage}_{term}{more}" for stage in STAGES for term in ("cls", "seg") for more in ("", "_soft")}
    names |= {f"{stage}_reg{more}" for stage in STAGES for more in ("", "_bound")} | {"fea"}
    assert set(losses.loss_weights(ALL_ON, 1.0, 1.0)) == set(losses.loss_weights(NOTHING, 1.0, 1.0)) == names


def test_eq_14_with_everything_off_is_eq_1_whatever_the_constants():
    off = ALL_ON._replace(fea=False, cls=False, bbr=False, seg=False)
    expected = {"fea": 0.0}
    for stage in STAGES:
        expected |= {f"{stage}_cls": 1.0, f"{stage}_reg": 2.0, f"{stage}_seg": 3.0}
        expected |= {f"{stage}_{term}": 0.0 for term in ("cls_soft", "reg_bound", "seg_soft")}
    assert losses.loss_weights(off, box_weight=2.0, segmentation_weight=3.0) == expected
    assert losses.loss_weights(NOTHING, box_weight=2.0, segmentation_weight=3.0) == expected
    assert (off.any, NOTHING.any) == (False, False)


@pytest.mark.parametrize(
    ("switch", "own"),
    [
        ("fea", {"fea": 0.5}),
        ("cls", {"{}_cls": 0.25, "{}_cls_soft": 0.75}),
        ("bbr", {"{}_reg_bound": 2 * 0.75}),
        ("seg", {"{}_seg": 3 * 0.125, "{}_seg_soft": 3 * 0.875}),
    ],
)
def test_table_iv_each_switch_alone_changes_its_own_weights_in_both_stages(switch, own):
    off = ALL_ON._replace(fea=False, cls=False, bbr=False, seg=False)
    alone = off._replace(**{switch: True})
    assert alone.any
    expected = losses.loss_weights(off, 2.0, 3.0)
    expected |= {name.format(stage): weight for name, weight in own.items() for stage in STAGES}
    assert losses.loss_weights(alone, 2.0, 3.0) == expected


# What holds of every term.


def cases(images=2):
    """By name: a term, outputs of student and teacher, the mask of what counts of them, and the other arguments."""
    is_positive = np.tile([[1, 1, 0, 0]], (images, 1))
    is_sampled = np.tile([[1, 1, 1, 0]], (images, 1))
    targets = make_targets(is_positive, is_sampled, draw(images, 4, 4, seed=7))
    is_positive = targets.is_positive & targets.is_sampled

    def parts(term, *shape, mask, **others):
        student, teacher = draw(*shape, seed=1), draw(*shape, seed=2)
        return term, student, teacher, mask, others

    found = {
        "fea": parts(lambda s, t: losses.features(s, t), images, 2, 3, 4, mask=None),
        "cls": parts(losses.classification, images, 4, 2, mask=targets.is_sampled, targets=targets, temperature=2.0),
        # With so large a margin every positive counts.
        "bbr": parts(losses.box_regression, images, 4, 4, mask=is_positive, targets=targets, delta=99.0),
    }
    for stage, (_, *shape) in SHAPES.items():
        counted = np.random.default_rng(3).random((images, *shape)) < 0.5
        found[f"seg of the {stage} stage"] = parts(
            losses.segmentation, images, *shape, 2, mask=counted, counted=counted
        )
    return found


NAMES = tuple(cases())
MASKED = tuple(name for name in NAMES if not name.startswith("fea"))


@functools.cache
def compiled(name):
    """``run(student, teacher, others)``: the term and its gradients with respect to both; compiled once."""
    term = cases()[name][0]
    return jax.jit(jax.value_and_grad(lambda s, t, others: term(s, t, **others), argnums=(0, 1)))


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_what_counts_of_the_student_and_nothing_of_the_teacher(name):
    _, student, teacher, mask, others = cases()[name]
    _, (gradient, of_teacher) = compiled(name)(student, teacher, others)
    mask = np.ones(student.shape[:-1], bool) if mask is None else mask
    assert gradient[mask].any(-1).all()
    assert not gradient[~mask].any()
    assert not of_teacher.any()


@pytest.mark.parametrize("whose", ["student", "teacher"])
@pytest.mark.parametrize("name", MASKED)
def test_padding_that_is_not_a_number_reaches_neither_value_nor_gradient(name, whose):
    _, student, teacher, mask, others = cases()[name]
    bad = {"student": student, "teacher": teacher}
    bad[whose] = np.where(mask[..., None], bad[whose], np.float32(np.nan))
    value, gradients = compiled(name)(student, teacher, others)
    bad_value, bad_gradients = compiled(name)(bad["student"], bad["teacher"], others)
    assert bad_value == value > 0
    jax.tree.map(np.testing.assert_array_equal, bad_gradients, gradients)


@pytest.mark.parametrize("name", ["cls", "bbr"])
def test_target_offsets_of_all_but_sampled_positives_reach_neither_value_nor_gradient(name):
    _, student, teacher, _, others = cases()[name]
    targets = others["targets"]
    used = targets.is_positive & targets.is_sampled
    bad = targets._replace(offsets=np.where(used[..., None], targets.offsets, np.float32(np.nan)))
    value, gradients = compiled(name)(student, teacher, others)
    bad_value, bad_gradients = compiled(name)(student, teacher, others | {"targets": bad})
    assert bad_value == value > 0
    jax.tree.map(np.testing.assert_array_equal, bad_gradients, gradients)


@pytest.mark.parametrize("name", NAMES)
def test_large_batch_is_the_mean_of_its_equal_parts(name):
    _, student, teacher, _, others = cases(images=4)[name]

    def of(part):
        own = jax.tree.map(lambda x: x[part] if np.ndim(x) else x, others)
        value, (gradient, _) = compiled(name)(student[part], teacher[part], own)
        return float(value), gradient

    (whole, gradient), *halves = (of(slice(*part)) for part in ((0, 4), (0, 2), (2, 4)))
    assert abs(halves[0][0] - halves[1][0]) > 1e-3
    np.testing.assert_allclose(whole, np.mean([value for value, _ in halves]), rtol=1e-5)
    expected = np.concatenate([half for _, half in halves]) / 2
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)
