"""Terms that the teacher adds to the student's loss, Eq. 14-18, by hand."""

import functools

import jax
import numpy as np
import pytest
from loss_cases import LN2, LN3, LN4, make_targets, sure, surer, value, value_and_gradient

from dcrl_jax.losses import detection
from dcrl_jax.losses import distillation as losses
from dcrl_jax.losses.distillation import NO_DISTILLATION, STAGES, Distillation

pytestmark = pytest.mark.usefixtures("quick_compile")

ALL_ON = Distillation(True, True, True, True, 0.5, 0.25, 1.0, 0.75, 0.0, 0.125)
ALL_OFF = ALL_ON._replace(fea=False, cls=False, bbr=False, seg=False)
# Cross entropy of a student's (1/4, 3/4) with labels (1/10, 9/10) and (1/4, 3/4).
WITH_TEACHER, WITH_SOFTENED = LN4 - 0.9 * LN3, LN4 - 0.75 * LN3


def test_eq_15_is_the_mean_squared_difference_per_image_then_over_images():
    teacher = np.float32([[[[0, 0], [2, 6]]], [[[1, 1], [1, 1]]]])
    difference = np.float32([[[[1, -2], [3, 0]]], [[[0, 0], [0, 6]]]])
    # (1 + 4 + 9 + 0) / 4 = 3.5 and 36 / 4 = 9.
    assert value(losses.features, teacher + difference, teacher) == (3.5 + 9) / 2


def test_eq_16_is_the_mean_over_positive_and_negative_samples():
    targets = make_targets([[1, 0, 0, 1], [0, 1, 0, 0]], [[1, 1, 1, 0], [1, 0, 0, 0]])
    logits = sure(2, 4, at=[((0, 1), 0.0), ((0, 3), [50.0, -50.0])])
    # There is no factor T^2, and the student's logits are not divided.
    expected = ((2 * WITH_SOFTENED + LN2) / 3 + WITH_SOFTENED) / 2
    np.testing.assert_allclose(value(losses.classification, logits, surer(2, 4), targets, 2.0), expected, rtol=1e-6)


GOAL = np.float32([0.5, -1, 2, 0])
STUDENT_ERROR = np.float32([1, 2, 0, 0])  # squared norm 5


@pytest.mark.parametrize(
    ("teacher_error", "delta", "expected"),
    [
        ([0, 0, 0, 0], 0.0, 5),  # 5 > 0
        ([0, 0, 0, 2], 0.0, 5),  # 5 > 4
        ([1, 0, 2, 0], 0.0, 0),  # 5 = 5: no worse than the teacher
        ([1, 0, 2, 0], 0.5, 5),  # 5.5 > 5
        ([0, 3, 0, 0], 0.0, 0),  # 5 < 9, though the first offset is worse than the teacher's
        ([0, 3, 0, 0], 4.0, 0),  # 9 = 9
        ([0, 3, 0, 0], 4.5, 5),  # 9.5 > 9: within the margin of the teacher's error; the margin is not added
        ([0, 0, 0, -2], -2.0, 0),  # 3 < 4
        ([0, 1, 1, 1], 0.0, 5),  # 5 > 3, though the first offset decides against 1: all four count together
    ],
)
def test_eq_17_counts_a_squared_error_above_the_teachers_less_the_margin(teacher_error, delta, expected):
    offsets = [(GOAL + np.float32(error))[None, None] for error in (STUDENT_ERROR, teacher_error)]
    term, gradient = value_and_gradient(losses.box_regression, *offsets, make_targets([[1]], [[1]], [[GOAL]]), delta)
    assert term == expected
    np.testing.assert_array_equal(gradient[0, 0], 2 * STUDENT_ERROR if expected else np.zeros(4))


def test_eq_17_is_the_error_of_sampled_positives_over_all_samples():
    targets = make_targets([[1, 1, 0, 1, 0], [1, 0, 0, 0, 0]], [[1, 1, 1, 0, 1], [1, 1, 0, 0, 0]])
    offsets, teacher = np.full((2, 5, 4), 7, np.float32), np.zeros((2, 5, 4), np.float32)
    # Squared errors of 5, worse than the teacher; 1, better than its 4; 10, worse.
    offsets[0, 0], offsets[0, 1], offsets[1, 0] = [1, 2, 0, 0], [0, 0, 1, 0], [0, 3, 0, 1]
    teacher[0, 1] = [2, 0, 0, 0]
    # Four of the first image's are sampled, two of the second's.
    term, gradient = value_and_gradient(losses.box_regression, offsets, teacher, targets, 0.0)
    assert term == (5 / 4 + 10 / 2) / 2
    expected = np.zeros((2, 5, 4))
    expected[0, 0], expected[1, 0] = offsets[0, 0] / 4, offsets[1, 0] / 2  # twice the error, over two images
    np.testing.assert_allclose(gradient, expected, rtol=1e-6)


def test_eq_18_is_the_mean_over_the_counted_bins():
    # Two images, three RoIs of 2x2 bins. In the first image one RoI and one bin count, in the second everything.
    logits = sure(2, 3, 2, 2, at=[((0, 0, 0, 0), 0.0), ((1, 2), 0.0), ((0, 2), [50.0, -50.0])])
    counted = np.ones((2, 3, 2, 2), bool)
    counted[0, 1:] = [[[0, 0], [1, 0]], [[0, 0], [0, 0]]]
    # The temperature of Eq. 16 does not apply: labels are 1/10 and 9/10.
    expected = ((LN2 + 4 * WITH_TEACHER) / 5 + (4 * LN2 + 8 * WITH_TEACHER) / 12) / 2
    np.testing.assert_allclose(value(losses.segmentation, logits, surer(2, 3, 2, 2), counted), expected, rtol=1e-6)


def test_eq_14_total_by_hand():
    terms = {"fea": 10.0}
    names = ("cls", "cls_soft", "reg", "reg_bound", "seg", "seg_soft")
    for stage, values in (("rpg", (4.0, 8.0, 1.0, 2.0, 16.0, 8.0)), ("rdr", (8.0, 4.0, 3.0, 4.0, 8.0, 16.0))):
        terms |= {f"{stage}_{name}": term for name, term in zip(names, values, strict=True)}
    # zeta 1/4, epsilon 3/4, xi 1/8, rho 1/2, lambda 2, eta 3.
    rpg = (0.25 * 4 + 0.75 * 8) + 2 * (1 + 0.75 * 2) + 3 * (0.125 * 16 + 0.875 * 8)
    rdr = (0.25 * 8 + 0.75 * 4) + 2 * (3 + 0.75 * 4) + 3 * (0.125 * 8 + 0.875 * 16)
    weights = losses.loss_weights(ALL_ON, box_weight=2.0, segmentation_weight=3.0)
    assert weights.keys() == terms.keys() == losses.loss_weights(NO_DISTILLATION, 1.0, 1.0).keys()
    assert detection.weighted_sum(terms, weights) == rpg + rdr + 0.5 * 10


def test_relative_features_are_in_units_of_each_image_s_own_teacher():
    # Mean squares of the difference 4 and 9, of the teacher 4 and 36; the third image's features are all zero.
    adapted = np.array([4.0, 3.0, 0.0], np.float32).reshape(3, 1, 1, 1) * np.ones((3, 2, 3, 4), np.float32)
    teacher = np.array([2.0, 6.0, 0.0], np.float32).reshape(3, 1, 1, 1) * np.ones((3, 2, 3, 4), np.float32)
    assert losses.features(adapted, teacher, relative=True) == pytest.approx((4 / 4 + 9 / 36 + 0) / 3)
    assert losses.features(1000 * adapted, 1000 * teacher, relative=True) == pytest.approx((1 + 0.25) / 3)
    assert losses.features(adapted, teacher) == pytest.approx((4 + 9 + 0) / 3)


# Every weight that a switch of Table IV changes. All others are those of Eq. 1, the same in both stages.
SWITCHES = {
    None: {},
    "fea": {"fea": 0.5},
    "cls": {"{}_cls": 0.25, "{}_cls_soft": 0.75},
    "bbr": {"{}_reg_bound": 2 * 0.75},
    "seg": {"{}_seg": 3 * 0.125, "{}_seg_soft": 3 * 0.875},
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_table_iv_a_switch_changes_its_own_weights_in_both_stages(switch):
    rules = ALL_OFF._replace(**{switch: True}) if switch else ALL_OFF
    weights = {"{}_cls": 1.0, "{}_reg": 2.0, "{}_seg": 3.0, "{}_cls_soft": 0.0, "{}_reg_bound": 0.0, "{}_seg_soft": 0.0}
    weights = {"fea": 0.0, **weights, **SWITCHES[switch]}
    expected = {name.format(stage): weight for name, weight in weights.items() for stage in STAGES}
    assert losses.loss_weights(rules, box_weight=2.0, segmentation_weight=3.0) == expected
    assert rules.any == bool(switch)
    assert switch or losses.loss_weights(NO_DISTILLATION, 2.0, 3.0) == expected


def cases():
    """By name: a term, outputs of student and teacher, the mask of the entries that count, and the other arguments."""

    def draw(*shape, seed):
        return np.random.default_rng(seed).normal(size=shape).astype(np.float32)

    def case(term, mask, channels, **others):
        return term, draw(*mask.shape, channels, seed=1), draw(*mask.shape, channels, seed=2), mask, others

    targets = make_targets([[1, 1, 0, 0]] * 2, [[1, 1, 1, 0]] * 2, draw(2, 4, 4, seed=7))
    rpg, rdr = (np.random.default_rng(3).random(shape) < 0.5 for shape in ((2, 2, 3), (2, 3, 2, 2)))
    return {
        "fea": case(lambda s, t: losses.features(s, t), np.ones((2, 2, 3), bool), 4),
        "fea relative": case(lambda s, t: losses.features(s, t, True), np.ones((2, 2, 3), bool), 4),
        "cls": case(losses.classification, targets.is_sampled, 2, targets=targets, temperature=2.0),
        # With so large a margin every positive counts.
        "bbr": case(losses.box_regression, targets.is_positive, 4, targets=targets, delta=99.0),
        "seg rpg": case(losses.segmentation, rpg, 2, counted=rpg),
        "seg rdr": case(losses.segmentation, rdr, 2, counted=rdr),
    }


NAMES = tuple(cases())


@functools.cache
def compiled(name):
    """``run(student, teacher, others)``: the term and its gradients with respect to both."""
    term = cases()[name][0]
    return jax.jit(jax.value_and_grad(lambda s, t, others: term(s, t, **others), argnums=(0, 1)))


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_what_counts_of_the_student_and_not_the_teacher(name):
    _, student, teacher, mask, others = cases()[name]
    _, (gradient, of_teacher) = compiled(name)(student, teacher, others)
    np.testing.assert_array_equal(gradient.any(-1), mask)
    assert not of_teacher.any()


MASKED = [(name, which) for name in NAMES if not name.startswith("fea") for which in ("student", "teacher")]


@pytest.mark.parametrize(("name", "poisoned"), [*MASKED, ("cls", "targets"), ("bbr", "targets")])
def test_nan_of_padding_reaches_neither_value_nor_gradient(name, poisoned):
    _, student, teacher, mask, others = cases()[name]
    term, gradients = compiled(name)(student, teacher, others)
    nan = np.float32(np.nan)
    if poisoned == "targets":
        targets = others["targets"]
        offsets = np.where(targets.is_positive[..., None], targets.offsets, nan)
        others = others | {"targets": targets._replace(offsets=offsets)}
    elif poisoned == "student":
        student = np.where(mask[..., None], student, nan)
    else:
        teacher = np.where(mask[..., None], teacher, nan)
    poisoned_term, poisoned_gradients = compiled(name)(student, teacher, others)
    assert poisoned_term == term > 0
    jax.tree.map(np.testing.assert_array_equal, poisoned_gradients, gradients)
