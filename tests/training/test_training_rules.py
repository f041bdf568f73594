"""What a config makes of the rules of training: sampling, the weights of the terms, what is distilled."""

from configs import baseline, student, teacher
from dcrl_jax.losses.distillation import NOTHING, Distillation
from dcrl_jax.models.detect import ProposalRules
from dcrl_jax.training.targets import RdrRules, RpgRules
from dcrl_jax.training.terms import training_rules

STAGES = ("rpg", "rdr")
OWN = ("cls", "reg", "seg", "branches")
# What a teacher adds for a student, Eq. 16 to 18.
ADDED = ("cls_soft", "reg_bound", "seg_soft")


def weights_of(config):
    """The weights by the name of the term without its stage, in which both stages must agree."""
    weights = training_rules(config).weights
    assert set(weights) == {f"{stage}_{term}" for stage in STAGES for term in OWN + ADDED} | {"fea"}
    for term in OWN + ADDED:
        assert weights[f"rpg_{term}"] == weights[f"rdr_{term}"], term
    return {"fea": weights["fea"]} | {term: weights[f"rpg_{term}"] for term in OWN + ADDED}


NO_TEACHER = {"fea": 0.0, "cls_soft": 0.0, "reg_bound": 0.0, "seg_soft": 0.0}


def test_eq_1_weights_of_the_paper_are_one_for_each_term_of_the_fused_outputs():
    assert weights_of(teacher.get_config()) == {"cls": 1.0, "reg": 1.0, "seg": 1.0, "branches": 0.0} | NO_TEACHER


def test_eq_1_lambda_and_eta_weigh_regression_and_segmentation_of_both_stages():
    for recipe in (teacher, baseline):
        config = recipe.get_config()
        config.loss.update(box_weight=2.0, segmentation_weight=3.0, per_branch_weight=4.0)
        assert weights_of(config) == {"cls": 1.0, "reg": 2.0, "seg": 3.0, "branches": 4.0} | NO_TEACHER


def test_eq_14_weights_of_the_paper_share_hard_and_soft_labels_evenly():
    assert weights_of(student.get_config()) == {
        "cls": 0.5,
        "cls_soft": 0.5,
        "reg": 1.0,
        "reg_bound": 0.5,
        "seg": 0.5,
        "seg_soft": 0.5,
        "fea": 0.5,
        "branches": 0.0,
    }


def test_eq_14_lambda_and_eta_weigh_the_teacher_s_terms_too():
    config = student.get_config()
    config.loss.update(box_weight=2.0, segmentation_weight=4.0)
    config.distillation.update(rho=0.125, zeta=0.75, epsilon=3.0, xi=0.25)
    assert weights_of(config) == {
        "cls": 0.75,
        "cls_soft": 0.25,
        "reg": 2.0,
        "reg_bound": 6.0,
        "seg": 1.0,
        "seg_soft": 3.0,
        "fea": 0.125,
        "branches": 0.0,
    }


def test_student_that_distils_nothing_weighs_its_terms_as_the_baseline():
    config = student.get_config()
    config.distillation.update(fea=False, cls=False, bbr=False, seg=False)
    assert weights_of(config) == weights_of(baseline.get_config())
    assert not training_rules(config).distillation.any


def test_distillation_is_the_student_s_own_section_and_nobody_else_s():
    config = student.get_config()
    config.distillation.update(bbr=False, rho=0.1, zeta=0.2, temperature=3.0, epsilon=0.4, delta=0.6, xi=0.7)
    assert training_rules(config).distillation == Distillation(
        fea=True,
        cls=True,
        bbr=False,
        seg=True,
        rho=0.1,
        zeta=0.2,
        temperature=3.0,
        epsilon=0.4,
        delta=0.6,
        xi=0.7,
    )
    for recipe in (teacher, baseline):
        assert training_rules(recipe.get_config()).distillation == NOTHING


def test_rules_come_from_the_config():
    config = teacher.get_config()
    config.rpn.update(positive_iou=0.61, negative_iou=0.21, ignore_ioa=0.41, match_best_anchor=False)
    config.rpn.update(sampled=99, max_positive=33, offset_std=(1.0, 2.0, 3.0, 4.0), kept_training=777)
    config.roi.update(positive_iou=0.55, ignore_ioa=0.45, sampled=44, max_positive=11)
    config.backbone.stride = 16
    rules = training_rules(config)
    std = (1.0, 2.0, 3.0, 4.0)
    assert rules.proposals == ProposalRules((512, 640), std, 4.0, 6000, 777, 0.7)
    assert rules.rpg == RpgRules(0.61, 0.21, 0.41, False, 99, 33, std)
    assert rules.rdr == RdrRules(0.55, 0.45, 44, 11, std)
    assert rules.stride == 16
