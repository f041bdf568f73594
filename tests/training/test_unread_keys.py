"""Keys that are given and would have no effect."""

import re

import pytest
from ml_collections import ConfigDict

from configs import ablations, baseline, finetune, student, teacher
from dcrl_jax.errors import InputError
from dcrl_jax.training.distill import trains_teacher
from dcrl_jax.training.unread_keys import _RULES, check_unread_keys

RECIPES = {
    "teacher": teacher.get_config,
    "student": student.get_config,
    "baseline": baseline.get_config,
    "finetune": finetune.get_config,
    "row": ablations.get_config,
}


def check(recipe, given):
    name, _, argument = recipe.partition(":")
    config = RECIPES[name](argument) if argument else RECIPES[name]()
    config.update_from_flattened_dict(given)
    check_unread_keys(config, list(given))


@pytest.mark.parametrize(
    ("recipe", "given", "unread"),
    [
        ("teacher", {"optimizer.momentum": 0.5}, {"optimizer.momentum": "optimizer.name=sgd has one"}),
        ("teacher:synthetic", {"optimizer.decay_epochs": (2.0,)}, {"optimizer.decay_epochs": "schedule=steps"}),
        ("student", {"optimizer.decay_factor": 0.5}, {"optimizer.decay_factor": "optimizer.decay_epochs is empty"}),
        ("baseline", {"train.steps": 9, "train.epochs": 2.0}, {"train.epochs": "train.steps overrides it"}),
        ("teacher", {"init.checkpoint": "a", "init.vgg16": "b"}, {"init.vgg16": "init.checkpoint overrides it"}),
        ("teacher:synthetic", {"data.manual_dir": "/data"}, {"data.manual_dir": "synthetic scenes are rendered"}),
        ("row:table6/none", {"loss.segmentation_weight": 2.0}, {"loss.segmentation_weight": "stages is empty"}),
        ("finetune:caltech", {"eval.border_px": ()}, {"eval.border_px": "the other rules have their own"}),
        ("baseline", {"loss.per_branch_weight": 1.0}, {"loss.per_branch_weight": "only a teacher"}),
        ("baseline", {"optimizer.fusion_rate_scale": 0.1}, {"optimizer.fusion_rate_scale": "only a teacher"}),
        ("row:table3/average", {"optimizer.fusion_rate_scale": 0.1}, {"optimizer.fusion_rate_scale": "learns nothing"}),
        (
            "row:table3/linear",
            {"optimizer.fusion_rate_scale": 0.1, "fusion.grid": (), "fusion.hidden": 9},
            {"fusion.grid": "strategy=maf", "fusion.hidden": "strategy=maf"},
        ),
        ("row:fig6/teacher-without-cfl", {"cfl.groups": 4}, {"cfl.groups": "cfl.enabled is False"}),
        ("row:table2/without-sfl", {"cfl.aggregation": "average"}, {"cfl.aggregation": "needs no gate"}),
        ("row:table2/without-mfl", {"cfl.specific_gain": 2.0}, {"cfl.specific_gain": "nothing specific"}),
        ("row:table4/cls", {"distillation.rho": 1.0}, {"distillation.rho": "distillation.fea is False"}),
        (
            "row:table4/fea",
            {f"distillation.{name}": 0.25 for name in ("rho", "zeta", "temperature", "epsilon", "delta", "xi")},
            {
                "distillation.zeta": "distillation.cls is False",
                "distillation.temperature": "distillation.cls is False",
                "distillation.epsilon": "distillation.bbr is False",
                "distillation.delta": "distillation.bbr is False",
                "distillation.xi": "distillation.seg is False",
            },
        ),
        (
            "student",
            {"segmentation.stages": (), "distillation.seg": True, "distillation.xi": 0.25},
            {"distillation.seg": "stages is empty", "distillation.xi": "stages is empty"},
        ),
        (
            "student",
            {"distillation.zeta": 1.0, "distillation.temperature": 2.0, "distillation.epsilon": 0.0}
            | {"distillation.delta": 0.1, "loss.segmentation_weight": 0.0, "distillation.xi": 0.1},
            {
                "distillation.temperature": "zeta is 1",
                "distillation.delta": "epsilon is 0",
                "distillation.xi": "segmentation_weight is 0",
            },
        ),
        (
            "baseline",
            {"data.options.train_list": "a.txt", "data.options.train_stride": 3, "data.options.test_stride": 5},
            {"data.options.train_stride": "train_list overrides it"},
        ),
        (
            "teacher",
            {"cfl.shared_fraction": 0.0005, "cfl.aggregation": "average"},
            {"cfl.aggregation": "leaves one part"},
        ),
        # A student's own keys, and those that its teacher has for itself or takes over.
        (
            "student:synthetic",
            {"teacher.optimizer.momentum": 0.5, "optimizer.momentum": 0.5, "optimizer.name": "sgd"},
            {"teacher.optimizer.momentum": "optimizer.name=sgd has one"},
        ),
        ("student", {"teacher.cfl.enabled": False, "teacher.cfl.groups": 4}, {"teacher.cfl.groups": "cfl.enabled"}),
        (
            "student",
            {"teacher.checkpoint": "runs/t", "teacher.train.steps": 9, "teacher.init.checkpoint": "runs/s"},
            {"teacher.train.steps": "already trained", "teacher.init.checkpoint": "already trained"},
        ),
        (
            "student",
            {"teacher.checkpoint": "runs/t", "loss.per_branch_weight": 1.0},
            {"loss.per_branch_weight": "only a teacher"},
        ),
        (
            "student",
            {
                **{f"distillation.{term}": False for term in ("fea", "cls", "bbr", "seg")},
                "teacher.checkpoint": "runs/t",
            },
            {"teacher.checkpoint": "all terms of distillation are off"},
        ),
    ],
)
def test_given_key_that_nothing_reads_is_refused_with_the_reason(recipe, given, unread):
    with pytest.raises(InputError) as refusal:
        check(recipe, given)
    message = str(refusal.value)
    assert re.findall(r"config\.(\S+) has no effect", message) == list(unread)
    for line, reason in zip(message.splitlines(), unread.values(), strict=False):
        assert reason in line


@pytest.mark.parametrize(
    ("recipe", "given"),
    [
        ("student:synthetic", {"loss.per_branch_weight": 0.5, "data.blank_probability": 0.1}),
        ("student", {"optimizer.momentum": 0.5, "teacher.optimizer.decay_epochs": (9.0,)}),
        ("student", {"init.checkpoint": "runs/b", "init.vgg16": "vgg.safetensors"}),  # the teacher reads the second
        ("teacher", {"optimizer.weight_decay": 5e-4, "train.accumulation_steps": 4}),
        ("student:msrs", {"data.manual_dir": "/data", "teacher.train.steps": 9}),
        ("row:table4/fea", {"distillation.rho": 0.1}),
    ],
)
def test_key_that_somebody_reads_is_accepted(recipe, given):
    check(recipe, given)


def keys_of(values, prefix=""):
    """The dotted keys of a config."""
    if not isinstance(values, ConfigDict):
        return {prefix.removesuffix(".")}
    return {key for name in values for key in keys_of(values[name], f"{prefix}{name}.")}


@pytest.mark.parametrize("recipe", ["teacher", "student", "baseline"])
@pytest.mark.parametrize("role", ["teacher", "student", "baseline", "nobody"])
def test_role_is_not_to_be_given(recipe, role):
    with pytest.raises(InputError, match=r"config.role is the recipe's; take configs/teacher.py"):
        check(recipe, {"role": role})


def test_seg_alone_without_stages_asks_for_no_teacher():
    config = student.get_config()
    config.segmentation.stages = ()
    config.distillation.update(fea=False, cls=False, bbr=False)
    assert not trains_teacher(config)


def test_rules_name_keys_that_exist():
    known = keys_of(teacher.get_config()) | keys_of(student.get_config())
    assert {key for rule in _RULES for key in rule.keys} <= known
