"""Keys that a user sets and the run would never read."""

import re

import pytest

from configs import ablations, baseline, finetune, student, teacher
from dcrl_jax.config import KEYS
from dcrl_jax.errors import InputError
from dcrl_jax.training.unread_keys import _RULES, check_unread_keys

RECIPES = {"teacher": teacher, "student": student, "baseline": baseline, "finetune": finetune, "row": ablations}
NO_TERMS = {f"distillation.{term}": False for term in ("fea", "cls", "bbr", "seg")}
TERM_OF = {"zeta": "cls", "temperature": "cls", "epsilon": "bbr", "delta": "bbr", "xi": "seg"}
CONSTANTS = {f"distillation.{name}": 0.25 for name in TERM_OF}
OPTIONS = {"data.options.train_list": "a.txt", "data.options.test_stride": 5}
MOMENTUM = {"optimizer.name": "sgd", "optimizer.momentum": 0.5}


def check(recipe, keys):
    name, *argument = recipe.split(":", 1)
    config = RECIPES[name].get_config(*argument)
    config.update_from_flattened_dict(keys)
    check_unread_keys(config, list(keys))


@pytest.mark.parametrize(
    ("recipe", "keys", "unread"),
    [
        # Why nothing reads the last key.
        ("teacher", {"optimizer.momentum": 0.5}, "optimizer.name=sgd has one"),
        ("teacher:synthetic", {"optimizer.decay_epochs": (2.0,)}, "schedule=steps"),
        ("student", {"optimizer.decay_factor": 0.5}, "optimizer.decay_epochs is empty"),
        ("teacher", {"data.lwir_range_unit": "percent"}, "lwir_range is empty"),
        ("teacher:synthetic", {"data.manual_dir": "/data"}, "synthetic scenes are rendered"),
        ("row:table6/none", {"loss.segmentation_weight": 2.0}, "stages is empty"),
        ("finetune:caltech", {"eval.border_px": ()}, "the other rules have their own"),
        ("baseline", {"loss.per_branch_weight": 1.0}, "only a teacher"),
        ("baseline", {"optimizer.fusion_rate_scale": 0.1}, "only a teacher"),
        ("row:table3/average", {"optimizer.fusion_rate_scale": 0.1}, "learns nothing"),
        ("row:fig6/teacher-without-cfl", {"cfl.groups": 4}, "cfl.enabled is False"),
        ("row:table2/without-sfl", {"cfl.aggregation": "average"}, "needs no gate"),
        ("row:table2/without-mfl:kaist/literal", {"cfl.specific_gain": 2.0}, "nothing specific"),
        ("teacher", {"cfl.init": "identity", "cfl.specific_gain": 2.0}, "cfl.init is identity"),
        ("teacher", {"init.checkpoint": "a", "init.rescale": True}, "init.checkpoint overrides it"),
        ("teacher:synthetic", {"init.rescale": True}, "init.vgg16 is empty"),
        ("baseline:msrs", {"data.unlabelled": "pairs"}, "only a student with a teacher reads it"),
        ("teacher", {"data.validation_split": "test"}, "data.validation_videos takes its place"),
        ("row:table4/cls", {"distillation.rho": 1.0}, "distillation.fea is False"),
        ("row:table4/cls", {"distillation.relative": True}, "distillation.fea is False"),
        ("baseline", {"train.steps": 9, "train.epochs": 2.0}, "train.steps overrides it"),
        ("teacher", {"init.checkpoint": "a", "init.vgg16": "b"}, "init.checkpoint overrides it"),
        ("teacher", {"cfl.shared_fraction": 0.0005, "cfl.aggregation": "average"}, "leaves one part"),
        ("baseline", OPTIONS | {"data.options.train_stride": 3}, "train_list overrides it"),
        ("teacher:folder", {"data.options.split": "train", "data.options.split_seed": 3}, "name the test pairs"),
        ("teacher:flir-aligned", {"data.options.test_share": 0.5}, "name the test pairs"),
        ("student", {"segmentation.stages": (), "distillation.seg": True}, "stages is empty"),
        ("student", {"segmentation.stages": (), "distillation.xi": 0.25}, "stages is empty"),
        ("student", {"loss.segmentation_weight": 0.0, "distillation.xi": 0.25}, "segmentation_weight is 0"),
        ("student", {"distillation.zeta": 1.0, "distillation.temperature": 2.0}, "zeta is 1"),
        ("student", {"distillation.epsilon": 0.0, "distillation.delta": 0.25}, "epsilon is 0"),
        # Of a student: its own keys, and those that its teacher has for itself or takes over.
        ("student", NO_TERMS | {"teacher.checkpoint": "runs/t"}, "all terms of distillation are off"),
        ("student", {"teacher.checkpoint": "runs/t", "loss.per_branch_weight": 1.0}, "only a teacher"),
        ("student", {"teacher.checkpoint": "runs/t", "teacher.train.steps": 9}, "already trained"),
        ("student", {"teacher.checkpoint": "runs/t", "teacher.init.checkpoint": "runs/s"}, "already trained"),
        ("student", {"teacher.cfl.enabled": False, "teacher.cfl.groups": 4}, "cfl.enabled is False"),
        ("student:synthetic", MOMENTUM | {"teacher.optimizer.momentum": 0.5}, "optimizer.name=sgd has one"),
        # Why nothing reads several keys.
        (
            "row:table3/linear",
            {"optimizer.fusion_rate_scale": 0.1, "fusion.grid": (), "fusion.hidden": 9},
            {"fusion.grid": "strategy=maf", "fusion.hidden": "strategy=maf"},
        ),
        ("row:table4/fea", CONSTANTS, {f"distillation.{name}": f"{term} is False" for name, term in TERM_OF.items()}),
    ],
)
def test_unread_key_is_refused_with_the_reason(recipe, keys, unread):
    if isinstance(unread, str):
        unread = {list(keys)[-1]: unread}
    with pytest.raises(InputError) as refusal:
        check(recipe, keys)
    message = str(refusal.value)
    assert re.findall(r"config\.(\S+) has no effect", message) == list(unread)
    for line, reason in zip(message.splitlines(), unread.values(), strict=False):
        assert reason in line


@pytest.mark.parametrize(
    ("recipe", "keys"),
    [
        ("student:synthetic", {"loss.per_branch_weight": 0.5, "data.blank_probability": 0.1}),
        ("student:kaist/literal", {"optimizer.momentum": 0.5, "teacher.optimizer.decay_epochs": (9.0,)}),
        ("student:msrs", {"data.unlabelled": "pairs"}),
        ("student", {"init.checkpoint": "runs/b", "init.vgg16": "vgg.safetensors"}),  # the teacher reads the second
        ("teacher", {"optimizer.weight_decay": 5e-4, "train.accumulation_steps": 4}),
        ("student:msrs", {"data.manual_dir": "/data", "teacher.train.steps": 9}),
        ("row:table4/fea", {"distillation.rho": 0.1}),
        ("teacher:m3fd", {"data.options.test_share": 0.5, "data.options.split_seed": 3}),
    ],
)
def test_key_that_a_run_reads_is_accepted(recipe, keys):
    check(recipe, keys)


def test_role_may_not_be_set():
    with pytest.raises(InputError, match=r"config.role is the recipe's; take configs/teacher.py"):
        check("teacher", {"role": "teacher"})


def test_rules_name_keys_that_exist():
    named = {key for rule in _RULES for key in rule.keys if not key.startswith("data.options.")}
    assert named <= {key.name for key in KEYS}
